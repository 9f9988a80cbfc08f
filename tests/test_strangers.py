"""A stranger writes below a job's prefix while the job runs: each wait ends with an error that names the key, or goes on.

Which of the two, by key (`barrier`, `cluster()`, `wait_job()`, `get()` are the waits that read it):

    control/state          all waits raise: whether the job is over cannot be known
    control/cluster        cluster() raises; nobody else reads it
    control/barriers/B     the waits at B raise
    control/shared/K       get(K) raises
    control/gone           goes on: the leader writes it anew
    control/leader         goes on; nobody takes the leadership over until it is right again, or gone
    members/ROLE/I         goes on; the task counts as lost, and the job fails after its grace unless that is mended
    config, current        goes on; who joins raises
    cluster/EPOCH          cluster() of who has not read it yet raises
    barriers/B             goes on; member.barrier(B) raises in who asks for it later
    arrivals/…             goes on: an arrival that is not ours is replaced
    departures/…, ticks/…, and every name that is not psbarrier's: goes on
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cli.helpers import invoke
from click.testing import Result
from jobs import PATIENCE, Place, call, raised, returned

from psbarrier import Barrier, Member, Policy
from psbarrier.cli import exits
from psbarrier.embedded import EtcdServer
from psbarrier.errors import (
    BarrierTimeoutError,
    GateTimeoutError,
    JobFailedError,
    JobTimeoutError,
    MalformedValueError,
)
from psbarrier.protocol.records import Registration
from psbarrier.store.base import KV, Delete, Put, Range, Txn

GARBAGE = [
    b"\xff\xfe\x00",
    b"",
    b"{}",
    b'{"v":2}',
    b"[" * 5000,
    b"z" + b"x" * 50,
    b'{"v":1,"run":"../..","since":1e299}',
]
ATTEMPT = "0000000000.0000000000.0000000000"
STRANGE = [
    "members/ghost/0",
    "members/worker/00",
    "members/worker/7777777777777777777777",
    "members/\udcff\udcfe",
    "control/\udcff",
    "control/barriers/a/b",
    "control/nothing",
    "arrivals/b/\udcff/worker/0",
    f"arrivals/b/{ATTEMPT}/ghost/0",
    "departures/worker/x",
    "ticks/finish/ghost",
    "cluster/x",
    "barriers/\x1b[2J",
    "\udcff",
]


@pytest.fixture(autouse=True)
def nothing_breaks_inside(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No thread of ours dies of what it reads, and nothing is written to the log without end."""
    yield
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not records, [record.getMessage() for record in records]
    assert len(caplog.records) < 60


class Stranger:
    """Writes what it likes, and can put things right again."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.root = f"{place.store.prefix}/{place.job}/runs/run/"

    def write(self, name: str, value: bytes) -> None:
        self._place.apply(Txn(then=(Put(self.root + name, value),)))

    def read(self, name: str) -> KV | None:
        return self._place.store.read(Range(self.root + name), until=self._place.soon()).one(0)

    @contextmanager
    def spoils(self, name: str, value: bytes) -> Iterator[None]:
        """For a while; then all is as it was."""
        before = self.read(name)
        self.write(name, value)
        yield
        key = self.root + name
        self._place.apply(Txn(then=(Put(key, before.value, before.lease) if before else Delete(key),)))


@pytest.fixture
def stranger(place: Place) -> Stranger:
    return Stranger(place)


def started(place: Place, **options: Any) -> tuple[list[Member], list[Barrier]]:
    """A job of two whose barrier `b` has been released once, so that every kind of key is there."""
    members = place.start(**options)
    members[0].share("k", 1)
    parties = [member.barrier("b") for member in members]
    meet(parties)
    return members, parties


def meet(parties: list[Barrier]) -> None:
    waiting = [call(party.wait, PATIENCE) for party in parties]
    assert sorted(returned(one) for one in waiting) == [0, 1]


def names(key: str, error: BaseException) -> bool:
    """Whether it is the error that names the key."""
    return isinstance(error, MalformedValueError) and error.key.endswith(key) and repr(error.key) in str(error)


@pytest.mark.parametrize("value", GARBAGE)
@pytest.mark.parametrize("key", ["control/state", "control/barriers/b"])
def test_what_a_barrier_needs_to_know_ends_its_waits_by_name(
    place: Place, stranger: Stranger, key: str, value: bytes
) -> None:
    """At once, for those who wait already and for those who come; and once it is right again, all meet again."""
    _, parties = started(place)
    waiting = call(parties[0].wait, PATIENCE)
    place.until(lambda: parties[0].n_waiting == 1, step=0)
    with stranger.spoils(key, value):
        assert names(key, raised(waiting))
        assert names(key, raised(call(parties[1].wait, PATIENCE)))
        repr(parties[0])
    place.until(lambda: all(readable(party) for party in parties), step=0)
    # The arrival whose wait ended in the error still counts, and may have been the last one that was missing; who comes
    # after that must say which generation he means.
    again = [call(party.wait, PATIENCE, 1) for party in parties]
    assert sorted(returned(one) for one in again) in ([0, 1], [-1, 1])
    meet(parties)


def readable(party: Barrier) -> bool:
    try:
        return not party.broken and not party._view.state.over
    except MalformedValueError:
        return False


KEPT = [
    "control/gone",
    "control/leader",
    "control/cluster",
    "control/shared/k",
    "config",
    "members/worker/1",
    "cluster/0000000001",
    "barriers/b",
    "departures/worker/1",
    "arrivals/b/0000000001.0000000000.0000000000/worker/1",
    *STRANGE,
]


@pytest.mark.parametrize("key", KEPT)
def test_whatever_else_is_spoilt_the_others_meet(place: Place, stranger: Stranger, key: str) -> None:
    """Who waits is released when all have come, and so is the next generation."""
    _, parties = started(place)
    value = GARBAGE[KEPT.index(key) % len(GARBAGE)]
    waiting = call(parties[0].wait, PATIENCE)
    place.until(lambda: parties[0].n_waiting >= 1, step=0)
    stranger.write(key, value)
    second = call(parties[1].wait, PATIENCE)
    assert sorted((returned(waiting), returned(second))) == [0, 1]
    meet(parties)


def test_a_deadline_is_kept_whatever_is_spoilt(place: Place, stranger: Stranger) -> None:
    """The error is the one of the deadline, and says who was missing."""
    _, parties = started(place)
    for number, key in enumerate([*STRANGE, "control/gone", "control/cluster", "departures/worker/1", "config"]):
        stranger.write(key, GARBAGE[number % len(GARBAGE)])
    waiting = call(parties[0].wait, 2.0)
    place.until(waiting.done)
    error = raised(waiting)
    assert isinstance(error, BarrierTimeoutError)
    assert set(error.missing) == {"worker/1"}


def test_the_end_of_the_job_is_told_whatever_is_spoilt(place: Place, stranger: Stranger) -> None:
    """Strange keys and a spoilt list of the gone keep nobody from finishing; the state does, until it is mended."""
    members, _ = started(place)
    for number, key in enumerate([*STRANGE, "control/gone", "control/leader", "config"]):
        stranger.write(key, GARBAGE[number % len(GARBAGE)])
    with stranger.spoils("control/state", b"null"):
        assert names("control/state", raised(call(members[0].wait_job, PATIENCE)))
        assert names("control/state", raised(call(members[0].finish)))
    place.until(lambda: not members[0]._view.get(f"{stranger.root}control/state"), step=0)
    waiting = call(members[0].wait_job, PATIENCE)
    for member in members:
        member.finish()
    assert returned(waiting).phase == "succeeded"


def test_a_wait_for_the_end_keeps_its_deadline(place: Place, stranger: Stranger) -> None:
    """With who has not finished, as far as it can be read."""
    members, _ = started(place)
    stranger.write("control/gone", b"junk")
    waiting = call(members[0].wait_job, 1.0)
    place.until(waiting.done)
    assert isinstance(raised(waiting), JobTimeoutError)


def test_a_shared_value_that_is_spoilt_is_named(place: Place, stranger: Stranger) -> None:
    """And can be shared anew."""
    members, _ = started(place)
    value, key = b'{"v":1,"value":NaN,"by":"","write":""}', f"{stranger.root}control/shared/k"
    stranger.write("control/shared/k", value)
    place.until(lambda: all((kv := m._view.get(key)) is not None and kv.value == value for m in members), step=0)
    assert names("control/shared/k", raised(call(members[1].get, "k", PATIENCE)))
    members[1].share("k", 2)
    assert members[1].get("k") == 2


def test_the_leader_writes_the_list_of_the_gone_anew(place: Place, stranger: Stranger) -> None:
    """It is the leader's own, so nobody else has to mend it."""
    started(place)
    stranger.write("control/gone", b"junk")
    place.until(lambda: (kv := stranger.read("control/gone")) is not None and kv.value != b"junk")


@pytest.mark.parametrize("key", ["control/leader", "control/state", "control/cluster"])
def test_a_leader_is_found_again_once_a_key_is_mended(place: Place, stranger: Stranger, key: str) -> None:
    """What nobody could read made every member give the duty up for a while, and not for ever."""
    members, _ = started(place, policy=Policy(loss_grace=600.0), ttl=3)
    leader = members[0]
    with stranger.spoils(key, b"junk"):
        place.until(lambda: all(spoilt(member, key, stranger) for member in members), step=0)
        if place.etcd is None:
            place.memory.advance(10.0)
    place.lose(leader)
    again = place.join("worker", 0, policy=Policy(loss_grace=600.0), ttl=3)
    waiting = call(again.cluster, PATIENCE)
    place.until(waiting.done)
    assert returned(waiting).epoch == 2


def spoilt(member: Member, key: str, stranger: Stranger) -> bool:
    kv = member._view.get(stranger.root + key)
    return kv is not None and kv.value == b"junk"


def test_a_registration_that_stays_spoilt_fails_the_job_by_name(place: Place, stranger: Stranger) -> None:
    """Its task may live on, but nobody can know; so it has its grace, and no wait lasts for ever."""
    members, _ = started(place, policy=Policy(loss_grace=1.0))
    stranger.write("members/worker/1", b"junk")
    waiting = call(members[0].wait_job, None)
    place.until(waiting.done)
    state = returned(waiting)
    assert state.phase == "failed"
    assert "members/worker/1" in state.reason


def test_a_registration_that_is_mended_in_time_is_as_before(place: Place, stranger: Stranger) -> None:
    """Nothing is sealed anew, and nobody is lost."""
    members, parties = started(place)
    with stranger.spoils("members/worker/1", b"junk"):
        place.until(lambda: bool(members[0]._view.gone.lost))
    place.until(lambda: not members[0]._view.gone.lost)
    meet(parties)
    assert members[0].cluster(PATIENCE).epoch == 1
    for member in members:
        member.finish()
    assert returned(call(members[0].wait_job, PATIENCE)).phase == "succeeded"


def test_who_finishes_over_a_spoilt_registration_is_told(place: Place, stranger: Stranger) -> None:
    """It would not count, and the job would wait for it."""
    members, _ = started(place)
    stranger.write("members/worker/1", b"junk")
    assert names("members/worker/1", raised(call(members[1].finish)))


# -- at the gate


@pytest.mark.parametrize("key", ["control/state", "control/cluster"])
def test_the_gate_names_what_it_cannot_read(place: Place, stranger: Stranger, key: str) -> None:
    """At once, and lets all in when that is mended."""
    first = place.join("worker", 0)
    waiting = call(first.cluster, PATIENCE)
    with stranger.spoils(key, b"junk"):
        assert names(key, raised(waiting))
    place.until(lambda: first._view.get(stranger.root + key) is None, step=0)
    second = place.join("worker", 1)
    gates = [call(member.cluster, PATIENCE) for member in (first, second)]
    place.until(lambda: all(gate.done() for gate in gates))
    assert {returned(gate).epoch for gate in gates} == {1}


def test_the_gate_opens_whatever_else_is_there(place: Place, stranger: Stranger) -> None:
    """Strangers are no members: not as another role, not under a second name of an index, not in bytes."""
    first = place.join("worker", 0)
    for number, key in enumerate([*STRANGE, "control/gone", "departures/worker/1"]):
        stranger.write(key, GARBAGE[number % len(GARBAGE)])
    for key in ("members/worker/01", "members/worker/1/", "members/ghost/0"):
        stranger.write(key, Registration("evil:1", "evil").pack())
    late = call(first.cluster, 1.0)
    place.until(late.done)
    error = raised(late)
    assert isinstance(error, GateTimeoutError)
    assert set(error.missing) == {"worker/1"}
    second = place.join("worker", None)
    gates = [call(member.cluster, PATIENCE) for member in (first, second)]
    place.until(lambda: all(gate.done() for gate in gates))
    assert returned(gates[0]).addresses("worker") == ["worker-0:2222", second.address]


@pytest.mark.parametrize("key", ["config", "members/worker/1", "control/state"])
def test_who_joins_is_told_the_key(place: Place, stranger: Stranger, key: str) -> None:
    """At once and not at the deadline; it leaves nothing behind, and may join when that is mended."""
    place.join("worker", 0)
    with stranger.spoils(key, b"junk"):
        leases = place.leases()
        assert names(key, raised(call(place.join, "worker", 1)))
        assert not place.leases() - leases
    place.join("worker", 1)


def test_a_current_run_that_cannot_be_read_is_named(place: Place) -> None:
    """Also one whose name would lead out of the job."""
    for value in (b"junk", b'{"v":1,"run":"../other"}'):
        place.apply(Txn(then=(Put(f"/psbarrier/{place.job}/current", value),)))
        error = raised(call(place.join, "worker", 0, run=None))
        assert names("/current", error)


def test_a_spec_that_was_forged_is_named(place: Place, stranger: Stranger) -> None:
    """Its SHA-256 is announced apart from it; who has read it already does not care."""
    members, _ = started(place)
    stranger.write("cluster/0000000001", b"junk")
    assert members[0].cluster(PATIENCE).epoch == 1
    members[1]._cluster = None  # as one who has not
    assert names("cluster/0000000001", raised(call(members[1].cluster, PATIENCE)))


def test_thousands_of_strange_keys_cost_time_and_nothing_else(real: Place) -> None:
    """Ten megabytes of them, before and while a job starts, below every prefix that is read as a whole."""
    stranger = Stranger(real)
    for start in range(0, 2000, 100):
        puts = [
            Put(f"{stranger.root}{prefix}{number}", b"x" * 5000)
            for number in range(start, start + 100)
            for prefix in ("members/worker/x", "control/shared/x", "departures/worker/x", "arrivals/b/x")
        ]
        for at in range(0, len(puts), 100):
            real.apply(Txn(then=tuple(puts[at : at + 100])))
    members = real.start()
    for number in range(50):
        stranger.write(f"members/worker/y{number}", b"y")
    meet([member.barrier("b") for member in members])
    for member in members:
        member.finish()
    assert members[0].wait_job(PATIENCE).phase == "succeeded"


# -- on the command line


SEEN = ["config", "control/state", "control/cluster", "control/barriers/b", "control/leader", "barriers/b",
        "departures/worker/1", "members/worker/1", "cluster/0000000001", "control/gone", *STRANGE]  # fmt: skip


@pytest.mark.parametrize("key", [*SEEN, "current", "runs"])
def test_every_command_ends_well_or_names_the_key(real: Place, etcd: EtcdServer, key: str) -> None:
    """Never with a traceback, never with what would move the cursor of a terminal."""
    started(real, run=None)
    run = real.members[0].run
    job = f"/psbarrier/{real.job}/"
    where = {"current": f"{job}current", "runs": f"{job}runs/\udcff\x1b[2J/config"}.get(key, f"{job}runs/{run}/{key}")
    real.apply(Txn(then=(Put(where, GARBAGE[SEEN.index(key) % len(GARBAGE)] if key in SEEN else b"junk"),)))
    for command in (
        ("status", real.job),
        ("status", real.job, "--json"),
        ("status", real.job, "--run", run),
        ("spec", real.job),
        ("wait", "--for", "role=worker", "--timeout", "0.5", real.job),
        ("wait", "--for", "succeeded", "--timeout", "0.5", real.job),
        ("abort", real.job),
    ):
        result = answered(etcd, *command)
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
        assert "\x1b" not in result.output
        told = result.exit_code in (0, 110, 111) or repr(where) in result.output
        assert told, (command, result.output)


def answered(etcd: EtcdServer, *command: str) -> Result:
    """What becomes of a command, once it has not just met an etcd that was starved for its whole short deadline."""
    for _ in range(20):
        result = invoke(etcd, *command)
        if result.exit_code != exits.UNAVAILABLE:
            break
    return result


def test_a_task_of_a_failed_job_that_was_spoilt_says_so(place: Place, stranger: Stranger) -> None:
    """An end that can be read is obeyed, whatever lies around it."""
    members, parties = started(place)
    for number, key in enumerate(STRANGE):
        stranger.write(key, GARBAGE[number % len(GARBAGE)])
    waiting = call(parties[0].wait, PATIENCE)
    members[1].fail("enough")
    assert isinstance(raised(waiting), JobFailedError)
