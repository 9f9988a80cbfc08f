"""Watches: what psbarrier.store.base promises, held to MemoryStore and to a real etcd alike."""

from __future__ import annotations

from collections.abc import Sequence

from psbarrier.errors import PsBarrierError
from psbarrier.store.base import KV, Compare, Delete, Event, Put, Range, Store, Txn, Watch, prefix_end
from store.helpers import Recorder, in_threads, soon


def put(store: Store, *keys: str) -> int:
    """Write `keys` in one transaction; the revision of that."""
    return store.txn(Txn(then=tuple(Put(key, b"x") for key in keys)), until=soon(store)).revision


def catch_up(store: Store, prefix: str) -> None:
    """Return when everything written before this has been delivered below `prefix`, as far as another watch shows."""
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    put(store, prefix + "~marker")
    seen.wait_for_key(prefix + "~marker")
    watch.stop()


def test_a_watch_tells_of_puts_and_deletes_as_they_are(store: Store, prefix: str) -> None:
    """Puts carry the key as it became; a delete carries its name and when."""
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    first = put(store, prefix + "a")
    second = put(store, prefix + "a")
    third = store.txn(Txn(then=(Delete(prefix + "a"),)), until=soon(store)).revision
    seen.wait_for(lambda: len(seen.seen) == 3)
    created, changed, deleted = seen.seen
    assert created == Event(KV(prefix + "a", b"x", first, first, 1))
    assert changed == Event(KV(prefix + "a", b"x", first, second, 2))
    assert (deleted.deleted, deleted.kv.key, deleted.kv.mod, deleted.kv.value) == (True, prefix + "a", third, b"")
    assert seen.revisions[-1] == third
    watch.stop()


def test_all_events_of_one_revision_come_in_one_call(store: Store, prefix: str) -> None:
    """However many: a reader never sees half a transaction."""
    keys = [f"{prefix}{number:03}" for number in range(120)]
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    revision = put(store, *keys)
    seen.wait_for(lambda: bool(seen.calls))
    assert [event.kv.key for event in seen.calls[0]] == keys
    assert seen.revisions == [revision]
    watch.stop()


def test_events_come_in_the_order_of_the_writes(store: Store, prefix: str) -> None:
    """With several writers, too: revisions only rise from call to call."""
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))

    def write(number: int) -> None:
        for count in range(25):
            put(store, f"{prefix}{number}/{count}")

    in_threads(4, write)
    seen.wait_for(lambda: len(seen.seen) == 100)
    mods = [event.kv.mod for event in seen.seen]
    assert mods == sorted(set(mods))
    watch.stop()


def test_a_watch_and_a_later_read_leave_no_gap(store: Store, prefix: str) -> None:
    """While another thread writes: what was read, and the events newer than that, are everything."""
    found: list[str] = []

    def write(_: int) -> None:
        for number in range(100):
            put(store, f"{prefix}{number:03}")

    def follow(_: int) -> None:
        seen = Recorder()
        watch = store.watch(prefix, seen, until=soon(store))
        reply = store.read(Range(prefix, prefix_end(prefix)), until=soon(store))
        assert watch.revision <= reply.revision
        seen.wait_for(lambda: f"{prefix}099" in seen.keys or reply.ranged(0).count == 100)
        watch.stop()
        assert all(event.kv.mod > watch.revision for event in seen.seen)
        found.extend(kv.key for kv in reply.many(0))
        found.extend(event.kv.key for event in seen.seen if event.kv.mod > reply.revision)

    in_threads(2, lambda number: (write, follow)[number](number))
    assert found == [f"{prefix}{number:03}" for number in range(100)]


def test_a_watch_starts_at_its_revision(store: Store, prefix: str) -> None:
    """What was written before is not told; what comes after `watch.revision` is."""
    before = put(store, prefix + "before")
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    assert watch.revision >= before
    put(store, prefix + "after")
    seen.wait_for_key(prefix + "after")
    assert seen.keys == [prefix + "after"]
    watch.stop()


def test_a_watch_sees_its_prefix_only(store: Store, prefix: str) -> None:
    """job1/ is never told of job10/, nor of the key that ends its range."""
    seen = Recorder()
    watch = store.watch(prefix + "job1/", seen, until=soon(store))
    put(store, prefix + "job10/a", prefix + "job1", prefix_end(prefix + "job1/"))
    put(store, prefix + "job1/mine", prefix + "job10/b")
    seen.wait_for_key(prefix + "job1/mine")
    assert seen.keys == [prefix + "job1/mine"]
    watch.stop()


def test_a_stopped_watch_is_told_nothing_more(store: Store, prefix: str) -> None:
    """And stopping again does nothing; other watches go on."""
    stopped, other = Recorder(), Recorder()
    first = store.watch(prefix, stopped, until=soon(store))
    second = store.watch(prefix, other, until=soon(store))
    first.stop()
    first.stop()
    put(store, prefix + "a")
    other.wait_for_key(prefix + "a")
    catch_up(store, prefix)
    assert stopped.calls == []
    second.stop()


def test_a_sink_may_stop_its_own_watch(store: Store, prefix: str) -> None:
    """From within the call: no deadlock, and no further call."""

    class StopsAtOnce(Recorder):
        watch: Watch

        def events(self, events: Sequence[Event], revision: int) -> None:
            self.watch.stop()
            super().events(events, revision)

    seen = StopsAtOnce()
    seen.watch = store.watch(prefix, seen, until=soon(store))
    put(store, prefix + "a")
    seen.wait_for_key(prefix + "a")
    put(store, prefix + "b")
    catch_up(store, prefix)
    assert seen.keys == [prefix + "a"]


def test_a_watch_sees_what_a_transaction_did_not_what_it_tried(store: Store, prefix: str) -> None:
    """A refused compare, and a delete of nothing, are no events."""
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    lost = Txn((Compare(prefix + "a", "version", ">", 0),), (Put(prefix + "a", b""),), (Delete(prefix + "none"),))
    assert not store.txn(lost, until=soon(store)).succeeded
    put(store, prefix + "end")
    seen.wait_for_key(prefix + "end")
    assert seen.keys == [prefix + "end"]
    watch.stop()


def test_a_sink_that_raises_ends_its_watch_only(store: Store, prefix: str) -> None:
    """It is told by failed(), once; the other watches never notice."""

    class Raises(Recorder):
        def events(self, events: Sequence[Event], revision: int) -> None:
            raise ValueError("a bug in the sink")

    bad, good = Raises(), Recorder()
    store.watch(prefix, bad, until=soon(store))
    watch = store.watch(prefix, good, until=soon(store))
    put(store, prefix + "a")
    put(store, prefix + "b")
    good.wait_for_key(prefix + "b")
    bad.wait_for(lambda: bool(bad.failures))
    assert isinstance(bad.failures[0], PsBarrierError)
    catch_up(store, prefix)
    assert len(bad.failures) == 1
    watch.stop()
