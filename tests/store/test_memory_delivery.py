"""How a MemoryStore tells its watches: who is told what, when, in which order, and on which thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from helpers import eventually

from psbarrier.store.base import Event
from psbarrier.store.memory import MemoryStore
from store.helpers import Beats, InThread, Recorder, exists, in_threads, put, soon


def test_a_writer_has_told_before_it_returns(memory: MemoryStore) -> None:
    """On its own thread, without the store's lock: the sink may read."""
    told = []

    class Reads(Recorder):
        def events(self, events: Sequence[Event], revision: int) -> None:
            told.append((threading.current_thread(), exists(memory, events[0].kv.key)))

    memory.watch("", Reads(), until=soon(memory))
    put(memory, "a")
    assert told == [(threading.current_thread(), True)]


def test_held_watches_lag_and_catch_up_in_order(memory: MemoryStore) -> None:
    """Writes and reads go on meanwhile; a watch that is opened meanwhile is not told of the past."""
    seen, late = Recorder(), Recorder()
    memory.watch("", seen, until=soon(memory))
    with memory.held_watches():
        put(memory, "a")
        memory.watch("", late, until=soon(memory))
        put(memory, "b")
        assert exists(memory, "b")
        assert seen.calls == []
    assert seen.keys == ["a", "b"]
    assert late.keys == ["b"]


def test_holds_add_up(memory: MemoryStore) -> None:
    """Only the last release delivers; one too many does no harm."""
    seen = Recorder()
    memory.watch("", seen, until=soon(memory))
    memory.hold()
    memory.hold()
    put(memory, "a")
    memory.release()
    assert seen.calls == []
    memory.release()
    memory.release()
    assert seen.keys == ["a"]


def test_a_lagging_watch_gets_a_snapshot_after_a_compaction(memory: MemoryStore) -> None:
    """Then events again, none of them twice; a watch that had missed nothing gets none."""
    lagging, idle = Recorder(), Recorder()
    memory.watch("a/", lagging, until=soon(memory))
    memory.watch("b/", idle, until=soon(memory))
    with memory.held_watches():
        put(memory, "a/1")
        memory.compact()
        newest = put(memory, "a/2")
    put(memory, "a/3")
    ((kvs, revision),) = lagging.snapshots
    assert ([kv.key for kv in kvs], revision) == (["a/1", "a/2"], newest)
    assert lagging.keys == ["a/3"]
    assert idle.snapshots == []


def test_a_sink_that_writes_neither_deadlocks_nor_reorders(memory: MemoryStore) -> None:
    """What it writes is told after what it was being told, to everybody, and never within its own call."""
    depth, deepest = [0], [0]

    class Writes(Recorder):
        def events(self, events: Sequence[Event], revision: int) -> None:
            depth[0] += 1
            deepest[0] = max(deepest[0], depth[0])
            if len(events[0].kv.key) < 5:
                put(memory, events[0].kv.key + "a")
            super().events(events, revision)
            depth[0] -= 1

    first, second = Writes(), Recorder()
    memory.watch("", first, until=soon(memory))
    memory.watch("", second, until=soon(memory))
    put(memory, "a")
    assert first.keys == second.keys == ["a", "aa", "aaa", "aaaa", "aaaaa"]
    assert deepest == [1]


def test_racing_writers_are_told_in_the_order_of_their_revisions(memory: MemoryStore) -> None:
    """One at a time, on whichever thread; nothing is left lying."""
    seen = [Recorder() for _ in range(3)]
    for recorder in seen:
        memory.watch("", recorder, until=soon(memory))

    def write(number: int) -> None:
        for count in range(50):
            put(memory, f"{number}/{count}")

    in_threads(4, write)
    for recorder in seen:
        assert recorder.revisions == list(range(2, 202))


def test_a_second_writer_leaves_its_events_to_the_one_who_delivers(memory: MemoryStore) -> None:
    """It returns at once, while the sink is still busy with the first."""
    entered, leave = threading.Event(), threading.Event()

    class Slow(Recorder):
        def events(self, events: Sequence[Event], revision: int) -> None:
            super().events(events, revision)
            entered.set()
            assert leave.wait(30)

    slow = Slow()
    memory.watch("", slow, until=soon(memory))
    first = InThread(lambda: put(memory, "a"))
    assert entered.wait(30)
    put(memory, "b")
    assert slow.keys == ["a"]
    leave.set()
    first.join()
    assert slow.keys == ["a", "b"]


def test_stopping_waits_for_the_call_that_is_under_way(memory: MemoryStore) -> None:
    """So nothing reaches the sink once stop() has returned."""
    entered, leave, order = threading.Event(), threading.Event(), []

    class Slow(Recorder):
        def events(self, events: Sequence[Event], revision: int) -> None:
            entered.set()
            assert leave.wait(30)
            order.append("sink done")

    watch = memory.watch("", Slow(), until=soon(memory))
    writer = InThread(lambda: put(memory, "a"))
    assert entered.wait(30)

    def stop() -> None:
        watch.stop()
        order.append("stopped")

    stopper = InThread(stop)
    assert eventually(lambda: watch.stopped)
    leave.set()
    writer.join()
    stopper.join()
    assert order == ["sink done", "stopped"]


def test_a_sink_that_raises_is_logged(memory: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """With the prefix; the writer never notices, even if failed() raises, too."""

    class Raises(Recorder):
        def events(self, events: Sequence[Event], revision: int) -> None:
            raise ValueError("a bug in the sink")

        def failed(self, error: Exception) -> None:
            raise ValueError("another bug")

    memory.watch("jobs/", Raises(), until=soon(memory))
    put(memory, "jobs/a")
    assert caplog.text.count("'jobs/'") == 2


def test_closing_ends_watches_and_beats(memory: MemoryStore) -> None:
    """Leases live on; another client is not concerned."""
    seen, beats = Recorder(), Beats()
    lease = memory.grant(15, until=soon(memory))
    other = memory.client()
    memory.watch("", seen, until=soon(memory))
    memory.keep(lease, interval=5, on_beat=beats)
    memory.close()
    put(other, "a", lease)
    assert seen.calls == []
    other.advance(15)
    assert len(beats.sent) == 1
    assert not exists(other, "a")
