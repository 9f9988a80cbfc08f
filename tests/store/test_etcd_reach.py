"""Endpoints that do not answer, answer wrongly or answer late: what is tried next, and what is said in the end."""

from __future__ import annotations

import pickle
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from attrs import frozen

from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.errors import LeaseNotFoundError, StoreRefusedError, StoreUnavailableError
from psbarrier.store import compat
from psbarrier.store.base import Compare, Put, Range, Txn, prefix_end
from psbarrier.store.calls import _AT_ONCE
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.login import Pass
from store.helpers import Recorder, in_threads, soon
from store.relay import Relay


@pytest.fixture
def prefix() -> str:
    return f"/reach/{uuid.uuid4().hex}/"


@frozen
class Listener:
    """Something that listens and is no etcd."""

    endpoint: str
    says: bytes


@pytest.fixture(params=[b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"], ids=["hangs up", "HTTP/1"])
def no_etcd(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """A server that hangs up at once, or that speaks HTTP/1."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                if request.param:
                    client.recv(64)
                    client.sendall(request.param)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield Listener(f"127.0.0.1:{server.getsockname()[1]}", request.param)
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


@pytest.fixture
def silent() -> Iterator[str]:
    """The endpoint of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def dead() -> str:
    """An endpoint at which nobody listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_nobody_there_is_said_for_each_endpoint() -> None:
    """The error names every endpoint with its own reason, survives pickling, and is sure that nothing was applied."""
    one, other = dead(), "no-such-host.invalid:2379"
    with EtcdStore([one, other]) as store, pytest.raises(StoreUnavailableError) as caught:
        store.txn(Txn(then=(Put("a", b""),)), until=store.clock.now() + 1.0)
    assert caught.value.reasons == {one: "connection refused", other: "name not known"}
    assert caught.value.applied is False
    assert isinstance(caught.value, ConnectionError)
    assert re.search(rf"within \d\.\d s: {one} \(connection refused\), {other} \(name not known\)", str(caught.value))
    assert pickle.loads(pickle.dumps(caught.value)).reasons == caught.value.reasons
    assert caught.value.__cause__ is not None


def test_a_deadline_that_has_passed_is_an_error_at_once() -> None:
    """Nothing is sent, and the error says why."""
    with EtcdStore(dead()) as store, pytest.raises(StoreUnavailableError, match="no time was left") as caught:
        store.read(Range("a"), until=store.clock.now() - 1)
    assert caught.value.applied is False


def test_a_last_attempt_without_time_left_hides_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told at the deadline is what was wrong before."""
    endpoint = dead()
    with EtcdStore(endpoint) as store:
        until, shown = store.clock.now() + 3.0, []

        def show(*_: object) -> Pass:
            shown.append(True)
            while len(shown) == 2 and store.clock.now() < until:
                time.sleep(0.05)
            return Pass()

        monkeypatch.setattr(store._login, "show", show)
        with pytest.raises(StoreUnavailableError) as caught:
            store.probe(until)
    assert len(shown) == 2
    assert dict(caught.value.reasons) == {endpoint: "connection refused"}


def test_a_listener_that_is_no_etcd_is_named_as_such(no_etcd: Listener) -> None:
    """Neither a hang nor gRPC's jargon."""
    with EtcdStore(no_etcd.endpoint) as store, pytest.raises(StoreUnavailableError) as caught:
        store.probe(until=store.clock.now() + 0.5)
    expected = "answers, but not as etcd" if no_etcd.says else "connection closed at once (does it ask for TLS?)"
    assert caught.value.reasons == {no_etcd.endpoint: expected}


def test_a_silent_endpoint_is_left_for_the_next_within_one_request(silent: str, etcd: EtcdServer, prefix: str) -> None:
    """Even a transaction goes on to the next endpoint: without a connection it cannot have been sent."""
    with EtcdStore([silent, etcd.endpoint], timeout=1.0) as store:
        reply = store.txn(Txn(then=(Put(prefix, b""),)), until=soon(store))
        assert reply.succeeded
        assert repr(store).endswith(f"using {etcd.endpoint}>")


def test_a_dead_first_endpoint_costs_no_verb_its_success(etcd: EtcdServer, prefix: str) -> None:
    """All six verbs work, the streams too."""
    with EtcdStore([dead(), etcd.endpoint]) as store:
        sink = Recorder()
        store.watch(prefix, sink, until=soon(store))
    with EtcdStore([dead(), etcd.endpoint]) as store:
        beaten = threading.Event()
        lease = store.grant(10, until=soon(store))
        store.txn(Txn(then=(Put(prefix + "a", b"", lease),)), until=soon(store))
        store.keep(lease, interval=1.0, on_beat=lambda sent, ttl: beaten.set())
        assert beaten.wait(20)
        store.revoke(lease, until=soon(store))
        assert store.read(Range(prefix, prefix_end(prefix)), until=soon(store)).many(0) == ()


def test_many_threads_survive_a_dead_endpoint_together(etcd: EtcdServer, prefix: str) -> None:
    """Whoever is first moves all to the endpoint that works."""
    with EtcdStore([dead(), etcd.endpoint]) as store:
        in_threads(8, lambda number: store.probe(until=soon(store)))


class Turnstile:
    """An etcd that lets each read wait until it is told to answer, and counts how many wait at once."""

    def __init__(self) -> None:
        self.came, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.most, self._here, self._lock = 0, 0, threading.Lock()
        handler = grpc.unary_unary_rpc_method_handler(self._range, response_serializer=bytes)
        methods = grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Range": handler})
        self._server = grpc.server(ThreadPoolExecutor(64), handlers=[methods])
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def _range(self, _: object, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self._here += 1
            self.most = max(self.most, self._here)
        self.came.release()
        assert self.go.acquire(timeout=60)
        with self._lock:
            self._here -= 1
        return b""

    def __enter__(self) -> Turnstile:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait(30)


def test_a_crowd_of_threads_asks_a_few_at_a_time() -> None:
    """And each gets its answer: a thousand that wait in gRPC at once would keep one another from it."""
    crowd = 3 * _AT_ONCE
    with Turnstile() as etcd, EtcdStore(etcd.endpoint, timeout=50, tell_of_bugs=False) as store:
        asking = [threading.Thread(target=lambda: store.probe(until=soon(store))) for _ in range(crowd)]
        for thread in asking:
            thread.start()
        for _ in range(_AT_ONCE):
            assert etcd.came.acquire(timeout=30)
        for _ in range(crowd):
            etcd.go.release()
        for thread in asking:
            thread.join(30)
        assert not any(thread.is_alive() for thread in asking)
        assert etcd.most == _AT_ONCE


class Swallower:
    """An etcd that never answers a read of STUCK, and everything else at once."""

    STUCK = "stuck"

    def __init__(self) -> None:
        self.swallowed, self.beaten = threading.Event(), threading.Semaphore(0)
        self.streams = 0
        self._over = threading.Event()
        rpc = compat.load()
        read = grpc.unary_unary_rpc_method_handler(self._range, response_serializer=bytes)
        beat = grpc.stream_stream_rpc_method_handler(
            self._keep_alive, rpc.LeaseKeepAliveRequest.FromString, rpc.LeaseKeepAliveResponse.SerializeToString
        )
        handlers = [
            grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Range": read}),
            grpc.method_handlers_generic_handler("etcdserverpb.Lease", {"LeaseKeepAlive": beat}),
        ]
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=handlers)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def _range(self, request: bytes, _: object) -> bytes:
        if self.STUCK.encode() in request:
            self.swallowed.set()
            self._over.wait(60)
        return b""

    def _keep_alive(self, requests: Iterator[Any], _: object) -> Iterator[Any]:
        self.streams += 1
        for request in requests:
            self.beaten.release()
            yield compat.load().LeaseKeepAliveResponse(ID=request.ID, TTL=60)

    def __enter__(self) -> Swallower:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.stop(0).wait(30)


def test_an_endpoint_that_answers_others_is_not_left_because_one_answer_never_came() -> None:
    """As when a leader takes what was passed on to it into its grave: whoever lost that asks again, there."""
    with (
        Swallower() as etcd,
        Swallower() as other,
        EtcdStore([etcd.endpoint, other.endpoint], timeout=3.0, tell_of_bugs=False) as store,
    ):
        asking = threading.Thread(target=_ask_in_vain, args=(store,))
        asking.start()
        assert etcd.swallowed.wait(30)
        while asking.is_alive():
            store.probe(until=soon(store))
            asking.join(0.1)
        assert f"using {etcd.endpoint}" in repr(store)
        assert not other.swallowed.is_set()


def test_the_only_endpoint_is_not_left_while_it_answers_beats() -> None:
    """A new connection to an etcd that is busy would only give it more to do: all watches are opened anew on it."""
    with Swallower() as etcd, EtcdStore(etcd.endpoint, timeout=3.0, tell_of_bugs=False) as store:
        keeping = store.keep(7, interval=0.2, on_beat=lambda sent, ttl: None)
        asking = threading.Thread(target=_ask_in_vain, args=(store,))
        asking.start()
        asking.join(30)
        assert not asking.is_alive()
        while etcd.beaten.acquire(blocking=False):
            pass
        for _ in range(3):
            assert etcd.beaten.acquire(timeout=30)
        keeping.stop()
        assert etcd.streams == 1


def _ask_in_vain(store: EtcdStore) -> None:
    """For as long as one attempt may take, and a little longer."""
    with pytest.raises(StoreUnavailableError):
        store.read(Range(Swallower.STUCK), until=store.clock.now() + 1.2 * store.request_timeout)


def test_an_ambiguous_transaction_is_not_repeated(etcd: EtcdServer, prefix: str) -> None:
    """The answer is lost on the way, the caller is told that nobody knows, and the write has happened once."""
    key = prefix + "counted"
    with Relay(etcd.endpoint) as relay, EtcdStore([relay.endpoint, relay.endpoint], timeout=1.0) as store:
        store.probe(until=soon(store))
        relay.mute()
        with pytest.raises(StoreUnavailableError, match="may or may not") as caught:
            store.txn(Txn(then=(Put(key, b""),)), until=soon(store))
        assert caught.value.applied is None
        assert caught.value.reasons == {relay.endpoint: "no answer in 1.0 s"}
        relay.unmute()
        kv = store.read(Range(key), until=soon(store)).one(0)
    assert kv is not None
    assert kv.version == 1


def test_a_connection_that_breaks_under_a_transaction_leaves_it_ambiguous(etcd: EtcdServer, prefix: str) -> None:
    """It is not sent again over the next connection."""
    key = prefix + "counted"
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint) as store, EtcdStore(etcd.endpoint) as direct:
        store.probe(until=soon(store))
        sink = Recorder()
        direct.watch(prefix, sink, until=soon(direct))
        relay.mute()
        raised: list[StoreUnavailableError] = []

        def write() -> None:
            try:
                store.txn(Txn(then=(Put(key, b""),)), until=soon(store))
            except StoreUnavailableError as error:
                raised.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        sink.wait_for_key(key)
        relay.cut()
        relay.heal()
        writer.join(20)
        assert [error.applied for error in raised] == [None]
        kv = store.read(Range(key), until=soon(store)).one(0)
    assert kv is not None
    assert kv.version == 1


def test_a_transaction_waits_for_an_etcd_that_is_coming_up(own_etcd: EtcdServer) -> None:
    """Refused connections prove that nothing was sent, so it is sent until it is answered."""
    with EtcdStore(own_etcd.endpoint) as store:
        own_etcd.kill()
        with pytest.raises(StoreUnavailableError):
            store.txn(Txn(then=(Put("a", b""),)), until=store.clock.now() + 0.3)
        starter = threading.Thread(target=own_etcd.start)
        starter.start()
        reply = store.txn(Txn(then=(Put("a", b""),)), until=soon(store))
        starter.join(30)
    assert reply.succeeded


def test_a_grant_that_is_answered_late_grants_one_lease(etcd: EtcdServer) -> None:
    """The repeat finds its own lease and is content."""
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint, timeout=0.5) as store:
        store.probe(until=soon(store))
        relay.mute()

        def reconnect() -> None:
            relay.cut()
            relay.heal()

        heal = threading.Timer(1.0, reconnect)
        heal.start()
        lease = store.grant(30, until=soon(store))
        heal.join()
        store.txn(Txn(then=(Put(f"/reach/{lease}", b"", lease),)), until=soon(store))
        store.revoke(lease, until=soon(store))
        store.revoke(lease, until=soon(store))


def test_a_short_deadline_does_not_condemn_a_healthy_endpoint(etcd: EtcdServer) -> None:
    """One impatient caller must not cost the others their connection and their streams."""
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint, timeout=20.0) as store:
        store.probe(until=soon(store))
        relay.mute()
        with pytest.raises(StoreUnavailableError, match="no answer in"):
            store.probe(until=store.clock.now() + 0.1)
        relay.unmute()
        store.probe(until=soon(store))
        assert relay.connections == 1


def test_large_values_and_large_answers_pass(etcd: EtcdServer, prefix: str) -> None:
    """A request of 1.4 MB, and an answer above gRPC's own limit of 4 MiB."""
    value = b"x" * 1_400_000
    with EtcdStore(etcd.endpoint) as store:
        for number in range(4):
            store.txn(Txn(then=(Put(f"{prefix}{number}", value),)), until=soon(store))
        kvs = store.read(Range(prefix, prefix_end(prefix)), until=soon(store)).many(0)
    assert [kv.value == value for kv in kvs] == [True] * 4


@pytest.mark.parametrize("size", [1_600_000, 3_000_000])
def test_too_large_a_request_is_refused_with_the_way_out(etcd: EtcdServer, prefix: str, size: int) -> None:
    """By etcd's limit or by its gRPC server's: both are about the request, and repeating it helps nobody."""
    with EtcdStore(etcd.endpoint) as store, pytest.raises(StoreRefusedError, match="--max-request-bytes"):
        store.txn(Txn(then=(Put(prefix, b"x" * size),)), until=soon(store))


def test_too_many_operations_are_refused_with_the_way_out(etcd: EtcdServer, prefix: str) -> None:
    """etcd takes 128 by default."""
    ops = tuple(Put(f"{prefix}{number}", b"") for number in range(200))
    with EtcdStore(etcd.endpoint) as store, pytest.raises(StoreRefusedError, match="--max-txn-ops"):
        store.txn(Txn(then=ops), until=soon(store))


def test_an_unknown_lease_is_its_own_error(etcd: EtcdServer, prefix: str) -> None:
    """The transaction changed nothing."""
    with EtcdStore(etcd.endpoint) as store:
        with pytest.raises(LeaseNotFoundError):
            store.txn(Txn(then=(Put(prefix, b"", 12345),)), until=soon(store))
        assert store.txn(Txn((Compare(prefix, "create", "==", 0),)), until=soon(store)).succeeded


def test_an_etcd_without_space_is_refused_with_the_way_out() -> None:
    """Its quota is used up; reading still works."""
    with EtcdServer(extra_args=["--quota-backend-bytes=4000000"]) as server, EtcdStore(server.endpoint) as store:

        def fill() -> None:
            for number in range(1000):  # etcd looks at its size every 100 ms only
                store.txn(Txn(then=(Put(f"/{number % 10}", b"x" * 1_000_000),)), until=soon(store))

        with pytest.raises(StoreRefusedError, match="quota"):
            fill()
        assert store.read(Range("/0"), until=soon(store)).one(0) is not None
