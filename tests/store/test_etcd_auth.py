"""Users, rights and tokens."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from users import PASSWORD, enable_plain_auth

from psbarrier.embedded import EtcdServer
from psbarrier.errors import PsBarrierError, StoreRefusedError, StoreUnavailableError
from psbarrier.store import compat
from psbarrier.store.base import Put, Range, Txn
from psbarrier.store.etcd import EtcdStore
from store.helpers import Beats, Recorder, in_threads, soon


@pytest.fixture
def guarded() -> Iterator[EtcdServer]:
    """An etcd with users; their tokens die with each restart."""
    with EtcdServer(extra_args=["--bcrypt-cost=4"]) as server:
        enable_plain_auth(server.endpoint, "/app/")
        yield server


def log_in(server: EtcdServer, user: str = "app", password: str = PASSWORD) -> EtcdStore:
    return EtcdStore(server.endpoint, user=user, password=password, allow_plaintext_password=True)


def put(store: EtcdStore, key: str) -> None:
    store.txn(Txn(then=(Put(key, b""),)), until=soon(store))


def test_a_user_can_do_what_its_role_allows(guarded: EtcdServer) -> None:
    """All six verbs, within the prefix."""
    sink, beats = Recorder(), Beats()
    with log_in(guarded) as store:
        store.watch("/app/", sink, until=soon(store))
        lease = store.grant(30, until=soon(store))
        store.keep(lease, interval=0.5, on_beat=beats)
        store.txn(Txn(then=(Put("/app/a", b"", lease),)), until=soon(store))
        sink.wait_for_key("/app/a")
        beats.wait_for(lambda: bool(beats.sent))
        assert store.read(Range("/app/a"), until=soon(store)).one(0) is not None
        store.revoke(lease, until=soon(store))


def test_outside_of_its_prefix_it_is_refused(guarded: EtcdServer) -> None:
    """At once, with what to do, and for a watch just as for a transaction."""
    sink = Recorder()
    with log_in(guarded) as store:
        inside = Recorder()
        store.watch("/app/", inside, until=soon(store))
        with pytest.raises(StoreRefusedError, match="permission denied; grant this user a role"):
            put(store, "/other/a")
        with pytest.raises(StoreRefusedError, match="permission denied"):
            store.watch("/other/", sink, until=soon(store))
        put(store, "/app/a")
        inside.wait_for_key("/app/a")
    assert not sink.failures


def test_a_denied_probe_has_still_reached_etcd(guarded: EtcdServer) -> None:
    """Whether etcd answers is one question, what one may do there another."""
    with log_in(guarded) as store:
        store.probe(until=soon(store))


def test_a_wrong_password_is_refused_and_not_shown(guarded: EtcdServer) -> None:
    """Neither is it tried until the deadline."""
    with log_in(guarded, password="hunter2") as store:
        with pytest.raises(StoreRefusedError, match="check the user's name and password") as caught:
            store.probe(until=soon(store))
        assert "hunter2" not in str(caught.value)
        with pytest.raises(StoreRefusedError, match="check the user's name and password"):
            put(store, "/app/a")
        with pytest.raises(StoreRefusedError, match="password"):
            store.watch("/app/", Recorder(), until=soon(store))


def test_without_a_login_the_way_in_is_said(guarded: EtcdServer) -> None:
    """For a request and for a watch."""
    with EtcdStore(guarded.endpoint) as store:
        with pytest.raises(StoreRefusedError, match="user"):
            put(store, "/app/a")
        with pytest.raises(StoreRefusedError):
            store.watch("/app/", Recorder(), until=soon(store))


def test_a_login_where_nobody_asks_for_one_is_no_mistake(etcd: EtcdServer) -> None:
    """Credentials may be rolled out before authentication is enabled."""
    with log_in(etcd) as store:
        store.probe(until=soon(store))


def test_tokens_that_die_are_renewed_by_themselves(guarded: EtcdServer) -> None:
    """Requests, a watch and a keep-alive outlive a restart of etcd, which forgets all tokens; again and again."""
    sink, beats = Recorder(), Beats()
    with log_in(guarded) as store:
        store.watch("/app/", sink, until=soon(store))
        store.keep(store.grant(30, until=soon(store)), interval=0.2, on_beat=beats)
        for number in range(3):
            guarded.restart()
            restarted = store.clock.now()
            put(store, f"/app/{number}")
            sink.wait_for_key(f"/app/{number}")
            beats.wait_for(lambda since=restarted: bool(beats.sent) and beats.sent[-1] > since)  # type: ignore[misc]
    assert sink.keys == ["/app/0", "/app/1", "/app/2"]
    assert not sink.failures


def test_a_watch_alone_survives_the_death_of_its_token(guarded: EtcdServer) -> None:
    """No request of ours renews the token first."""
    sink = Recorder()
    with log_in(guarded) as store, log_in(guarded, user="root") as other:
        store.watch("/app/", sink, until=soon(store))
        guarded.restart()
        put(other, "/app/a")
        sink.wait_for_key("/app/a")
    assert not sink.failures


def test_the_password_is_asked_for_at_each_login(guarded: EtcdServer) -> None:
    """A rotated one is picked up; and one login serves all threads."""
    asked: list[str] = []

    def password() -> str:
        asked.append(PASSWORD)
        return PASSWORD

    with EtcdStore(guarded.endpoint, user="app", password=password, allow_plaintext_password=True) as store:
        assert not asked
        in_threads(8, lambda number: put(store, f"/app/{number}"))
        assert len(asked) == 1
        guarded.restart()
        put(store, "/app/again")
        assert len(asked) == 2


def test_rights_that_are_taken_away_end_the_watch_when_it_is_opened_again(guarded: EtcdServer) -> None:
    """The sink is told, and nothing is tried for ever."""
    sink = Recorder()
    rpc = compat.load()
    with log_in(guarded) as store:
        store.watch("/app/", sink, until=soon(store))
        with grpc.insecure_channel(guarded.endpoint) as channel:
            auth = rpc.AuthStub(channel)
            token = auth.Authenticate(rpc.AuthenticateRequest(name="root", password=PASSWORD), timeout=20).token
            auth.UserRevokeRole(
                rpc.AuthUserRevokeRoleRequest(name="app", role="app"), timeout=20, metadata=(("token", token),)
            )
        guarded.restart()
        sink.wait_for(lambda: bool(sink.failures))
    failure: PsBarrierError = sink.failures[0]
    assert isinstance(failure, StoreRefusedError)
    assert "permission denied" in str(failure)


def test_a_password_that_cannot_be_read_is_tried_again(guarded: EtcdServer) -> None:
    """A secret that is being replaced is missing for a moment; one that stays missing is named at the deadline."""
    missing = [True]

    def password() -> str:
        if missing[0]:
            raise FileNotFoundError(2, "No such file or directory")
        return PASSWORD

    with EtcdStore(guarded.endpoint, user="app", password=password, allow_plaintext_password=True) as store:
        with pytest.raises(StoreUnavailableError, match="cannot read the password: No such file"):
            put_until(store, store.clock.now() + 0.3)
        missing[0] = False
        put_until(store, soon(store))


def put_until(store: EtcdStore, until: float) -> None:
    store.txn(Txn(then=(Put("/app/a", b""),)), until=until)
