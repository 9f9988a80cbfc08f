"""Whole jobs with a login: tokens that die all the time, an etcd that restarts, hundreds that log in at once."""

from __future__ import annotations

import logging
import re
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping

import pytest
from helpers import eventually
from jobs import PATIENCE, Place, call, returned
from store.helpers import Recorder, in_threads, soon
from store.test_etcd_auth import log_in, put
from users import PASSWORD, enable_plain_auth

from psbarrier import Member, MemberState
from psbarrier.embedded import EtcdServer
from psbarrier.errors import StoreRefusedError
from psbarrier.store.base import Put, Range, Store, Txn
from psbarrier.store.etcd import EtcdStore

pytestmark = pytest.mark.e2e


def logins(server: EtcdServer) -> int:
    """How many etcd has answered since it started."""
    with urllib.request.urlopen(f"http://{server.endpoint}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    found = re.findall(r'grpc_server_handled_total\{[^}]*grpc_method="Authenticate"[^}]*\} ([\d.e+]+)', text)
    return sum(int(float(number)) for number in found)


class Guarded(Place):
    """A place on an etcd that lets nobody in without a login."""

    def _etcd_client(self) -> Store:
        assert self.etcd is not None
        return EtcdStore(
            self.etcd.endpoint, prefix="/app", user="app", password=PASSWORD, allow_plaintext_password=True, timeout=5.0
        )


@pytest.fixture
def short() -> Iterator[Guarded]:
    """Tokens live for two seconds after their last use."""
    with EtcdServer(extra_args=["--bcrypt-cost=4", "--auth-token-ttl=2"]) as server:
        enable_plain_auth(server.endpoint, "/app/")
        with Guarded(server) as place:
            yield place


def meet(members: list[Member], rounds: int, pause: float = 0.0) -> None:
    """All meet so often, on threads of their own."""
    failures: list[BaseException] = []
    still = threading.Event()

    def loop(member: Member) -> None:
        try:
            barrier = member.barrier("epoch")
            for _ in range(rounds):
                barrier.wait(PATIENCE)
                still.wait(pause)
        except BaseException as error:  # noqa: BLE001 (handed to the test below)
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(member,), daemon=True) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("cycles", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_a_job_lives_on_while_its_tokens_die(short: Guarded, cycles: int, caplog: pytest.LogCaptureFixture) -> None:
    """Busy and idle in turns, over several lifetimes of a token and restarts of etcd: no error, nobody is lost, and a
    watch sees every change once and in order."""
    assert short.etcd is not None
    members = short.start({"worker": 3}, ttl=3)
    seen = Recorder()
    short.store.watch("/app/seen/", seen, until=short.soon())
    wanted = []
    for number in range(cycles):
        meet(members, 3)
        meet(members, 2, pause=2.5)  # longer than a token lives
        for write in range(3):
            wanted.append(f"/app/seen/{number}{write}")
            put_there(short.store, wanted[-1])
        if number < cycles - 1:
            short.etcd.restart()
    seen.wait_for_key(wanted[-1])
    assert seen.keys == wanted
    assert not seen.failures
    assert {member.state for member in members} == {MemberState.CONNECTED}
    assert members[0].cluster(PATIENCE).epoch == 1
    for member in members:
        member.finish()
    assert returned(call(members[0].wait_job, PATIENCE)).phase == "succeeded"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def put_there(store: Store, key: str) -> None:
    store.txn(Txn(then=(Put(key, b""),)), until=store.clock.now() + PATIENCE)


@pytest.mark.slow
def test_an_idle_watch_hears_of_a_change_after_its_token_has_died(short: Guarded) -> None:
    """etcd checks a watch's token when it is opened; so it lives on, and is opened anew after a restart without us."""
    assert short.etcd is not None
    sink = Recorder()
    store = short.store
    store.watch("/app/idle/", sink, until=short.soon())
    with log_in(short.etcd, user="root") as other:
        assert eventually(lambda: token_is_dead(store), 20)
        put(other, "/app/idle/a")
        sink.wait_for_key("/app/idle/a")
        short.etcd.restart()
        put(other, "/app/idle/b")
        sink.wait_for_key("/app/idle/b")
    assert sink.keys == ["/app/idle/a", "/app/idle/b"]


def token_is_dead(store: Store) -> bool:
    """Whether etcd has forgotten the token that the store shows. Asking keeps it alive, so this is asked seldom."""
    assert isinstance(store, EtcdStore)
    time.sleep(4)  # twice its life, and etcd looks every second
    shown = store._login._pass
    store.read(Range("/app/a"), until=soon(store))
    return store._login._pass is not shown


def test_a_hundred_logins_at_once_are_a_hundred(etcd: EtcdServer) -> None:
    """A login that etcd takes long for is waited for, by as many calls as it takes, and not sent again: that would make it
    take longer still. Here all of them take far longer than one call may."""
    with EtcdServer(extra_args=["--bcrypt-cost=7"]) as server:
        enable_plain_auth(server.endpoint, "/app/")
        before = logins(server)
        stores = [
            EtcdStore(server.endpoint, user="app", password=PASSWORD, allow_plaintext_password=True, timeout=0.3)
            for _ in range(100)
        ]
        in_threads(len(stores), lambda number: look(stores[number]))
        assert logins(server) - before == len(stores)
        restart_without_tokens(server)
        in_threads(len(stores), lambda number: look(stores[number]))
        assert logins(server) == len(stores)
        for store in stores:
            store.close()


def look(store: Store) -> None:
    store.read(Range("/app/a"), until=soon(store))


def restart_without_tokens(server: EtcdServer) -> None:
    """etcd 3.4 comes back with the tokens that it gave after its last write: they are in the log that it reads again."""
    with log_in(server, user="root") as other:
        put(other, "/last")
    server.restart()


def test_who_gives_up_leaves_the_login_to_the_next(own_etcd: EtcdServer) -> None:
    """Two calls, one after the other, and one login."""
    enable_plain_auth(own_etcd.endpoint, "/app/")
    before = logins(own_etcd)
    with EtcdStore(own_etcd.endpoint, user="app", password=PASSWORD, allow_plaintext_password=True) as store:
        own_etcd.pause()
        given_up = call(store.read, Range("/app/a"), until=store.clock.now() + 0.5)
        assert "the login is not answered yet" in str(given_up.exception(PATIENCE))
        own_etcd.resume()
        store.read(Range("/app/a"), until=soon(store))
    assert logins(own_etcd) - before == 1


def test_later_logins_are_spread(own_etcd: EtcdServer) -> None:
    """After a restart of etcd all processes of a job need one in the same moment; none waits for longer than 5 s."""
    enable_plain_auth(own_etcd.endpoint, "/app/")
    dues = []
    with EtcdStore(own_etcd.endpoint, user="app", password=PASSWORD, allow_plaintext_password=True) as store:
        store.read(Range("/app/a"), until=soon(store))
        link = store._channels.acquire()
        for _ in range(50):
            store._login._attempt = None
            dues.append(store._login._under_way(link).due - store.clock.now())
        store._login._attempt = None
        store._channels.release(link)
    assert max(dues) <= 5.0
    assert len({round(due, 3) for due in dues}) > 25


def test_a_login_that_fails_is_told_to_all_who_wait_for_it(own_etcd: EtcdServer) -> None:
    """Once, and nobody tries it again by himself: etcd would only be kept busy."""
    enable_plain_auth(own_etcd.endpoint, "/app/")
    before = logins(own_etcd)
    told: Mapping[int, BaseException]
    with EtcdStore(own_etcd.endpoint, user="app", password="wrong", allow_plaintext_password=True) as store:
        calls = [call(store.read, Range("/app/a"), until=soon(store)) for _ in range(8)]
        told = {number: one.exception(PATIENCE) or AssertionError() for number, one in enumerate(calls)}
    assert all("check the user's name and password" in str(error) for error in told.values())
    assert logins(own_etcd) - before <= len(calls)


def test_a_password_that_is_changed_at_etcd_first_ends_no_watch(own_etcd: EtcdServer) -> None:
    """Until the new one arrives, requests are refused and etcd is not asked each time; then all goes on, without a gap."""
    enable_plain_auth(own_etcd.endpoint, "/app/")
    held, sink = ["wrong"], Recorder()
    with (
        EtcdStore(own_etcd.endpoint, user="app", password=lambda: held[0], allow_plaintext_password=True) as store,
        log_in(own_etcd, user="root") as other,
    ):
        held[0] = PASSWORD
        store.watch("/app/", sink, until=soon(store))
        held[0] = "old"  # as etcd sees it from now on
        restart_without_tokens(own_etcd)
        for _ in range(100):
            with pytest.raises(StoreRefusedError, match="check the user's name and password"):
                look(store)
        assert logins(own_etcd) < 20
        put(other, "/app/a")
        held[0] = PASSWORD
        sink.wait_for_key("/app/a")
        look(store)
    assert not sink.failures
