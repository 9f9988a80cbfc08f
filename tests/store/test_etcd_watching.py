"""Watches over the network's and etcd's failures: nothing is lost, nothing comes twice."""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.errors import ClosedError, StoreUnavailableError
from psbarrier.store import compat
from psbarrier.store.base import Event, Put, Txn
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.manual_clock import ManualClock
from store.helpers import Recorder, in_threads, soon
from store.relay import Relay


@pytest.fixture
def prefix() -> str:
    return f"/watching/{uuid.uuid4().hex}/"


def put(store: EtcdStore, key: str) -> int:
    """Write one key; the revision."""
    return store.txn(Txn(then=(Put(key, b""),)), until=soon(store)).revision


def compact(endpoint: str, revision: int) -> None:
    """Let etcd forget everything before `revision`."""
    rpc = compat.load()
    with grpc.insecure_channel(endpoint) as channel:
        rpc.KVStub(channel).Compact(rpc.CompactionRequest(revision=revision, physical=True), timeout=20)


def numbered(prefix: str, count: int, start: int = 0) -> list[str]:
    return [f"{prefix}{number:04}" for number in range(start, start + count)]


def test_writes_during_a_disconnect_arrive_once_and_in_order(etcd: EtcdServer, prefix: str) -> None:
    """The watch resumes at the revision after the last one it saw."""
    sink = Recorder()
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint) as store, EtcdStore(etcd.endpoint) as direct:
        store.watch(prefix, sink, until=soon(store))
        for key in numbered(prefix, 3):
            put(direct, key)
        relay.cut()
        for key in numbered(prefix, 3, start=3):
            put(direct, key)
        relay.heal()
        put(direct, prefix + "last")
        sink.wait_for_key(prefix + "last")
    assert sink.keys == [*numbered(prefix, 6), prefix + "last"]
    assert not sink.snapshots
    assert not sink.failures


def test_a_connection_that_keeps_breaking_loses_nothing(etcd: EtcdServer, prefix: str) -> None:
    """Many short connections; every write is told exactly once."""
    sink = Recorder()
    keys = numbered(prefix, 200)
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint) as store, EtcdStore(etcd.endpoint) as direct:
        store.watch(prefix, sink, until=soon(store))
        for number, key in enumerate(keys):
            put(direct, key)
            if number % 40 == 20:
                relay.cut()
                relay.heal()
        sink.wait_for_key(keys[-1])
    assert sink.keys == keys


def test_a_killed_etcd_that_comes_back_continues_the_watch(own_etcd: EtcdServer, prefix: str) -> None:
    """With its data there is no gap, so there is no snapshot either."""
    sink = Recorder()
    with EtcdStore(own_etcd.endpoint) as store:
        store.watch(prefix, sink, until=soon(store))
        put(store, prefix + "before")
        sink.wait_for_key(prefix + "before")
        own_etcd.kill()
        own_etcd.start()
        put(store, prefix + "after")
        sink.wait_for_key(prefix + "after")
    assert sink.keys == [prefix + "before", prefix + "after"]
    assert not sink.snapshots


def test_a_compaction_during_a_disconnect_gives_a_snapshot(etcd: EtcdServer, prefix: str) -> None:
    """What was missed can no longer be told one by one, so the prefix is told as it is; then it goes on."""
    sink = Recorder()
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint) as store, EtcdStore(etcd.endpoint) as direct:
        store.watch(prefix, sink, until=soon(store))
        put(direct, prefix + "a")
        sink.wait_for_key(prefix + "a")
        relay.cut()
        put(direct, prefix + "b")
        compact(etcd.endpoint, put(direct, prefix + "b"))
        relay.heal()
        sink.wait_for(lambda: bool(sink.snapshots))
        put(direct, prefix + "c")
        sink.wait_for_key(prefix + "c")
    (kvs, revision), *more = sink.snapshots
    assert not more
    assert [kv.key for kv in kvs] == [prefix + "a", prefix + "b"]
    assert revision >= max(kv.mod for kv in kvs)
    assert sink.keys == [prefix + "a", prefix + "c"]


def test_an_etcd_that_comes_back_empty_is_a_gap(own_etcd: EtcdServer, prefix: str) -> None:
    """Its revisions are lower than what was seen: a snapshot says so, and later writes are seen."""
    sink = Recorder()
    with EtcdStore(own_etcd.endpoint) as store:
        for key in numbered("/elsewhere/", 20):
            put(store, key)
        watch = store.watch(prefix, sink, until=soon(store))
        put(store, prefix + "before")
        sink.wait_for_key(prefix + "before")
        own_etcd.kill()
        shutil.rmtree(own_etcd.folder / "data")
        own_etcd.start()
        sink.wait_for(lambda: bool(sink.snapshots))
        put(store, prefix + "after")
        sink.wait_for_key(prefix + "after")
    assert sink.snapshots == [((), sink.snapshots[0][1])]
    assert sink.snapshots[0][1] < watch.revision
    assert sink.keys == [prefix + "before", prefix + "after"]


def test_one_stream_carries_many_watches(etcd: EtcdServer, prefix: str) -> None:
    """Opened and stopped from many threads at once, each hears of its own prefix only, over one pair of threads."""
    with EtcdStore(etcd.endpoint) as store:

        def use(number: int) -> None:
            mine, short = Recorder(), Recorder()
            own = f"{prefix}{number}/"
            store.watch(own, mine, until=soon(store))
            store.watch(own, short, until=soon(store)).stop()
            put(store, own + "x")
            mine.wait_for_key(own + "x")
            assert mine.keys == [own + "x"]
            assert not short.keys

        in_threads(16, use)
        names = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("psbarrier-watch"))
        assert names == ["psbarrier-watch", "psbarrier-watch-writer"]


def test_all_watches_of_a_store_come_back_to_their_own(etcd: EtcdServer, prefix: str) -> None:
    """The server numbers them anew after a reconnect; nobody gets another's events."""
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint) as store, EtcdStore(etcd.endpoint) as direct:
        sinks = {f"{prefix}{number}/": Recorder() for number in range(10)}
        watches = {own: store.watch(own, sink, until=soon(store)) for own, sink in sinks.items()}
        dropped = f"{prefix}3/"
        watches[dropped].stop()
        relay.cut()
        relay.heal()
        for own in sinks:
            put(direct, own + "x")
        for own, sink in sinks.items():
            if own != dropped:
                sink.wait_for_key(own + "x")
        assert {own: sink.keys for own, sink in sinks.items()} == {
            own: [] if own == dropped else [own + "x"] for own in sinks
        }


def test_a_watch_that_nobody_confirms_is_an_error_at_its_deadline() -> None:
    """It says which endpoint, and what went wrong there."""
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"
    with EtcdStore(endpoint) as store, pytest.raises(StoreUnavailableError, match="confirm a watch") as caught:
        store.watch("/a/", Recorder(), until=store.clock.now() + 0.5)
    assert caught.value.reasons == {endpoint: "connection refused"}


class Hesitant:
    """An etcd that confirms a watch when it is told to."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.answer: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.streams = 0
        handler = grpc.stream_stream_rpc_method_handler(
            self._watch, lambda data: data, lambda response: response.SerializeToString()
        )
        methods = grpc.method_handlers_generic_handler("etcdserverpb.Watch", {"Watch": handler})
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[methods])
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def _watch(self, requests: Iterator[bytes], _: object) -> Iterator[Any]:
        self.streams += 1
        threading.Thread(target=self._hear, args=(requests,), daemon=True).start()
        while (number := self.answer.get(timeout=60)) is not None:
            response = compat.load().WatchResponse(watch_id=number, created=True)
            response.header.revision = 1
            yield response

    def _hear(self, requests: Iterator[bytes]) -> None:
        with contextlib.suppress(Exception):  # of no kind of its own, when the call is over
            for request in requests:
                self.asked.put(len(request))

    def __enter__(self) -> Hesitant:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.put(None)
        self._server.stop(0).wait(30)


def test_watches_that_are_confirmed_one_by_one_are_opened_once() -> None:
    """A thousand that are opened at once may take longer together than etcd has for one: it has not stalled."""
    clock, opened = ManualClock(), threading.Semaphore(0)
    with Hesitant() as etcd, EtcdStore(etcd.endpoint, clock=clock, timeout=10) as store:

        def open_one(number: int) -> None:
            store.watch(f"/{number}/", Recorder(), until=clock.now() + 100)
            opened.release()

        openers = [threading.Thread(target=open_one, args=(number,)) for number in range(3)]
        for opener in openers:
            opener.start()
        for _ in openers:
            etcd.asked.get(timeout=30)
        for number, _ in enumerate(openers):
            for _ in range(9):  # one leap would be taken for a process that had no time to look
                clock.await_waiters(condition=store._watching._condition)
                clock.advance(1)
            etcd.answer.put(number)
            assert opened.acquire(timeout=30)
        for opener in openers:
            opener.join(30)
        assert etcd.streams == 1


def test_a_watch_waits_for_an_etcd_that_is_coming_up(own_etcd: EtcdServer, prefix: str) -> None:
    """It is opened as soon as somebody answers."""
    sink = Recorder()
    own_etcd.kill()
    with EtcdStore(own_etcd.endpoint) as store:
        starter = threading.Thread(target=own_etcd.start)
        starter.start()
        store.watch(prefix, sink, until=soon(store))
        starter.join(30)
        put(store, prefix + "a")
        sink.wait_for_key(prefix + "a")


def test_a_muted_stream_is_given_up_when_a_request_finds_out(etcd: EtcdServer, prefix: str) -> None:
    """A request that gets no answer moves the watch to the next endpoint too."""
    sink = Recorder()
    with Relay(etcd.endpoint) as relay, EtcdStore([relay.endpoint, etcd.endpoint], timeout=1.0) as store:
        store.watch(prefix, sink, until=soon(store))
        relay.mute()
        store.probe(until=soon(store))
        put(store, prefix + "a")
        sink.wait_for_key(prefix + "a")
        relay.unmute()


@pytest.mark.slow
def test_an_idle_watch_notices_that_etcd_fell_silent(etcd: EtcdServer, prefix: str) -> None:
    """Nothing is sent and nothing comes; gRPC's pings find out, and the next endpoint tells what was missed."""
    sink = Recorder()
    with (
        Relay(etcd.endpoint) as relay,
        EtcdStore(etcd.endpoint) as direct,
        EtcdStore([relay.endpoint, etcd.endpoint]) as store,
    ):
        store.watch(prefix, sink, until=soon(store))
        relay.mute()
        put(direct, prefix + "a")
        sink.wait_for_key(prefix + "a")
        relay.unmute()


def test_a_sink_that_fails_in_failing_is_survived(etcd: EtcdServer, prefix: str) -> None:
    """Its watch is over; the others of the store go on."""

    class Hopeless(Recorder):
        def events(self, events: object, revision: int) -> None:
            raise RuntimeError("no")

        def failed(self, error: Exception) -> None:
            super().failed(error)  # type: ignore[arg-type]
            raise RuntimeError("no, and no")

    hopeless, sink = Hopeless(), Recorder()
    with EtcdStore(etcd.endpoint) as store:
        store.watch(prefix, hopeless, until=soon(store))
        store.watch(prefix, sink, until=soon(store))
        put(store, prefix + "a")
        put(store, prefix + "b")
        sink.wait_for_key(prefix + "b")
        hopeless.wait_for(lambda: len(hopeless.failures) == 1)
    assert isinstance(hopeless.failures[0].__cause__, RuntimeError)


def test_closing_ends_a_watch_that_is_being_opened() -> None:
    """Whoever waits for it gets ClosedError, not a hang."""
    store = EtcdStore(f"127.0.0.1:{free_ports(1)[0]}")
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            store.watch("/a/", Recorder(), until=soon(store))
        except ClosedError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    store.close()
    waiting.join(20)
    assert len(raised) == 1


def test_deletes_carry_their_revision_and_no_value(etcd: EtcdServer, prefix: str) -> None:
    """A revoked lease deletes its keys, and the watch tells."""
    sink = Recorder()
    with EtcdStore(etcd.endpoint) as store:
        store.watch(prefix, sink, until=soon(store))
        lease = store.grant(30, until=soon(store))
        store.txn(Txn(then=(Put(prefix + "a", b"v", lease),)), until=soon(store))
        store.revoke(lease, until=soon(store))
        sink.wait_for(lambda: len(sink.seen) == 2)
    created, deleted = sink.seen
    assert created.kv.lease == lease
    assert isinstance(deleted, Event)
    assert deleted.deleted
    assert (deleted.kv.value, deleted.kv.create) == (b"", 0)
    assert deleted.kv.mod > created.kv.mod
