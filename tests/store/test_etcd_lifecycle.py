"""The beginning and the end of an EtcdStore: no IO before it is used, no thread after it is closed."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from psbarrier.embedded import EtcdServer
from psbarrier.errors import ClosedError, InvalidArgumentError
from psbarrier.store import compat
from psbarrier.store.base import Put, Range, Txn
from psbarrier.store.clock import SystemClock
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.tls import TLS
from store.helpers import Beats, Recorder, soon
from store.relay import Relay

ROOT = Path(compat.__file__).parents[2]


def test_making_a_store_does_no_io() -> None:
    """No thread, no connection, no look-up: not even for files and hosts that do not exist."""
    before = set(threading.enumerate())
    store = EtcdStore("no-such-host.invalid:1", tls=TLS("/no/such/file"))
    assert set(threading.enumerate()) == before
    store.close()


def test_all_threads_are_gone_after_close(etcd: EtcdServer) -> None:
    """Ours and gRPC's."""
    before = set(threading.enumerate())
    store = EtcdStore(etcd.endpoint)
    store.read(Range("a"), until=soon(store))
    started = {thread.name for thread in set(threading.enumerate()) - before if "psbarrier" in thread.name}
    assert started <= {"psbarrier-call"}  # a read needs none but the one that the main thread has do it
    store.watch("/a/", Recorder(), until=soon(store))
    beats = Beats()
    store.keep(store.grant(10, until=soon(store)), interval=0.1, on_beat=beats)
    beats.wait_for(lambda: len(beats.sent) >= 2)
    ours = set(threading.enumerate()) - before
    assert all(thread.daemon for thread in ours)
    store.close()
    for thread in ours:
        thread.join(10)
    assert not [thread for thread in ours if thread.is_alive()]
    store.close()


def test_no_call_of_grpc_outlives_its_store(etcd: EtcdServer) -> None:
    """Its destructor takes a lock, and where that runs at the interpreter's end, the process may hang there."""

    def calls() -> list[object]:
        return [thing for thing in gc.get_objects() if type(thing).__name__ == "_MultiThreadedRendezvous"]

    gc.collect()
    before = len(calls())
    gc.disable()  # nobody knows when, and in which thread, it would run
    try:
        with EtcdStore(etcd.endpoint) as store:
            store.watch("/a/", Recorder(), until=soon(store))
            beats = Beats()
            store.keep(store.grant(10, until=soon(store)), interval=0.1, on_beat=beats)
            beats.wait_for(lambda: len(beats.sent) >= 2)
            assert len(calls()) == before + 2
        assert len(calls()) <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("verb", ["txn", "read", "grant", "revoke", "keep", "watch", "probe"])
def test_a_closed_store_says_so(etcd: EtcdServer, verb: str) -> None:
    """Every verb raises ClosedError, whether or not the store was ever used."""
    calls: dict[str, Callable[[EtcdStore], object]] = {
        "txn": lambda store: store.txn(Txn(), until=soon(store)),
        "read": lambda store: store.read(Range("a"), until=soon(store)),
        "grant": lambda store: store.grant(5, until=soon(store)),
        "revoke": lambda store: store.revoke(5, until=soon(store)),
        "keep": lambda store: store.keep(5, interval=1, on_beat=Beats()),
        "watch": lambda store: store.watch("/a/", Recorder(), until=soon(store)),
        "probe": lambda store: store.probe(until=soon(store)),
    }
    for used in (False, True):
        store = EtcdStore(etcd.endpoint)
        if used:
            calls["probe"](store)
        store.close()
        with pytest.raises(ClosedError):
            calls[verb](store)


def test_closing_interrupts_a_request_that_waits() -> None:
    """Another thread's request ends with ClosedError, not at its own deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = EtcdStore(f"127.0.0.1:{silent.getsockname()[1]}", timeout=60.0)
        raised: list[BaseException] = []

        def ask() -> None:
            try:
                store.probe(until=soon(store))
            except ClosedError as error:
                raised.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        silent.accept()[0].close()
        store.close()
        asking.join(20)
    assert len(raised) == 1


def test_a_sink_may_close_the_store(etcd: EtcdServer) -> None:
    """close() on one of the store's own threads does not wait for that thread."""
    closed = threading.Event()

    class Closer(Recorder):
        def events(self, events: object, revision: int) -> None:
            store.close()
            closed.set()

    store = EtcdStore(etcd.endpoint)
    store.watch("/closer/", Closer(), until=soon(store))
    with contextlib.suppress(ClosedError):  # the event may come before the reply
        store.txn(Txn(then=(Put("/closer/a", b""),)), until=soon(store))
    assert closed.wait(20)


def test_closing_with_etcd_gone_does_not_hang(own_etcd: EtcdServer) -> None:
    """Threads that are waiting to reconnect end as well."""
    store = EtcdStore(own_etcd.endpoint)
    store.watch("/a/", Recorder(), until=soon(store))
    store.keep(store.grant(10, until=soon(store)), interval=0.1, on_beat=Beats())
    own_etcd.kill()
    started = time.monotonic()
    store.close()
    assert time.monotonic() - started < 10
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("psbarrier-watch",)]


_USE = """
import os, sys, threading
from psbarrier.store.etcd import EtcdStore
store = EtcdStore(sys.argv[1])
class Sink:
    def events(self, events, revision): seen.set()
    def snapshot(self, kvs, revision): pass
    def failed(self, error): pass
seen, beaten = threading.Event(), threading.Event()
until = store.clock.now() + 20
store.watch("/exit/", Sink(), until=until)
store.keep(store.grant(10, until=until), interval=0.05, on_beat=lambda sent, ttl: beaten.set())
from psbarrier.store.base import Put, Txn
store.txn(Txn(then=(Put("/exit/a", b""),)), until=until)
assert seen.wait(20) and beaten.wait(20)
"""


def run(code: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, endpoint],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_process_may_end_without_closing_its_store(etcd: EtcdServer) -> None:
    """No hang, no warning, no word on stderr."""
    done = run(_USE, etcd.endpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_that_it_has_no_store(etcd: EtcdServer) -> None:
    """gRPC does not survive a fork: using the parent's store is an error at once, closing it is harmless."""
    code = f"""{_USE}
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
from psbarrier.errors import ForkError
from psbarrier.store.base import Range
child = os.fork()
if child == 0:
    told = 0
    for use in (lambda: store.read(Range("a"), until=until), lambda: store.watch("/b/", Sink(), until=until)):
        try:
            use()
        except ForkError as error:
            told += "spawn" in str(error)
    store.close()
    os._exit(40 + told)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
store.read(Range("a"), until=until)
"""
    done = run(code, etcd.endpoint)
    assert done.returncode == 0, done.stderr


def test_an_existing_client_lends_its_channel(etcd: EtcdServer) -> None:
    """All verbs go over it, and closing the store leaves it open."""
    compat.load()
    import etcd3

    host, _, port = etcd.endpoint.rpartition(":")
    client = etcd3.Etcd3Client(host=host, port=int(port))
    sink, beats = Recorder(), Beats()
    with EtcdStore(client) as store:
        assert repr(store) == f"<EtcdStore {etcd.endpoint}>"
        store.watch("/lent/", sink, until=soon(store))
        store.keep(store.grant(10, until=soon(store)), interval=0.1, on_beat=beats)
        store.txn(Txn(then=(Put("/lent/a", b"1"),)), until=soon(store))
        sink.wait_for_key("/lent/a")
        beats.wait_for(lambda: len(beats.sent) >= 2)
    assert client.get("/lent/a")[0] == b"1"
    with pytest.raises(InvalidArgumentError, match="its own TLS"):
        EtcdStore(client, tls=TLS())
    client.close()


def test_a_lent_channel_reconnects_too(own_etcd: EtcdServer) -> None:
    """As gRPC does it; watches and leases go on."""
    compat.load()
    import etcd3

    host, _, port = own_etcd.endpoint.rpartition(":")
    client = etcd3.Etcd3Client(host=host, port=int(port))
    sink = Recorder()
    with EtcdStore(client) as store:
        store.watch("/lent/", sink, until=soon(store))
        own_etcd.restart()
        store.txn(Txn(then=(Put("/lent/a", b"1"),)), until=soon(store))
        sink.wait_for_key("/lent/a")
    client.close()


def test_ipv6_works_where_there_is_ipv6(etcd: EtcdServer) -> None:
    """An address in brackets."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Relay(etcd.endpoint, host="::1") as relay, EtcdStore(relay.endpoint) as store:
        assert relay.endpoint.startswith("[::1]:")
        store.probe(until=soon(store))


def test_the_clock_is_the_systems() -> None:
    """It never goes back, wakes at its time, and waits without a limit in pieces."""
    clock = SystemClock()
    assert clock.now() <= clock.now()
    assert abs(clock.wall() - time.time()) < 60
    condition = threading.Condition()
    with condition:
        end = clock.now() + 0.01
        while clock.now() < end:
            clock.wait(condition, end)
        clock.wait(condition, end - 100)
    waker = threading.Thread(target=lambda: _notify(condition))
    with condition:
        waker.start()
        clock.wait(condition, None)
    waker.join(10)


def _notify(condition: threading.Condition) -> None:
    with condition:
        condition.notify_all()
