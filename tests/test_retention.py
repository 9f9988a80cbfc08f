"""Nothing is left behind: after its retention etcd itself removes a run, and no clean-up job exists."""

from __future__ import annotations

import pytest
from jobs import JOB, PATIENCE, TWO, Place, call, raised, returned

from psbarrier import Member, Policy
from psbarrier.errors import SlotLostError
from psbarrier.flows import duty, joining

SHORT = Policy(retention=2.0, max_restarts=5)


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is the least in real life; four TTLs remain the least here."""
    monkeypatch.setattr(joining, "MIN_RETENTION", 2.0)
    monkeypatch.setattr(duty, "MIN_RETENTION", 2.0)


def use_everything(place: Place, replicas: dict[str, int]) -> list[Member]:
    """A job that has written each kind of key."""
    members = place.start(replicas, policy=SHORT, ttl=2, run=None)
    first, second = members[0], members[-1]
    waiting = call(first.barrier("b", roles=(first.task.role,)).wait, PATIENCE)
    if len(replicas) == 1:
        second.barrier("b").wait(PATIENCE)
    returned(waiting)
    first.share("k", 1)
    second.crash("for the record")
    second.close()
    again = place.join(second.task.role, None, replicas=replicas, policy=SHORT, ttl=2, run=None)
    again.cluster(PATIENCE)
    return [*members[:-1], again]


@pytest.mark.parametrize("replicas", [TWO, JOB])
def test_after_the_retention_nothing_of_the_job_is_left(place: Place, replicas: dict[str, int]) -> None:
    """Registrations, specs, barriers, ticks, shared values and the end itself: all go with the run's lease."""
    members = use_everything(place, dict(replicas))
    kinds = {name.split("/")[2] for name in place.names() if name.startswith("runs/")}
    assert {
        "arrivals",
        "barriers",
        "cluster",
        "config",
        "control",
        "departures",
        "founded",
        "members",
        "ticks",
    } <= kinds
    for member in members:
        member.finish()
        member.close()
    assert place.kvs()
    place.until(lambda: not place.kvs(), step=0.5)


def test_a_run_that_was_abandoned_goes_too(place: Place) -> None:
    """Nobody ended it; all its processes were killed."""
    for member in use_everything(place, dict(TWO)):
        member.abandon()
    place.until(lambda: not place.kvs(), step=0.5)


def test_a_run_lives_as_long_as_one_member_does(memory: Place) -> None:
    """However short the retention, whoever leads keeps the run alive; and so does the next leader."""
    first, second = memory.start(TWO, policy=SHORT, ttl=2)
    for _ in range(40):
        memory.memory.advance(0.5)
    memory.lose(first)
    memory.until(lambda: second._view.leader is not None and second._view.leader.task == "worker/1", step=0)
    for _ in range(40):
        memory.memory.advance(0.5)
    second.share("alive", True)


def test_the_end_of_a_run_can_be_read_for_the_whole_retention(memory: Place) -> None:
    """Whoever asks how the job ended has this long to do so."""
    member = memory.join("worker", 0, replicas={"worker": 1}, policy=Policy(retention=100.0))
    member.finish()
    member.close()
    memory.memory.advance(99.0)
    assert any(name.endswith("/control/state") for name in memory.names())
    memory.memory.advance(1.0)
    assert not memory.kvs()


def test_the_retention_is_never_below_four_ttls(memory: Place) -> None:
    """An outage of a few TTLs must not cost a run its keys."""
    member = memory.join("worker", 0, replicas={"worker": 1}, policy=SHORT, ttl=15)
    member.finish()
    member.close()
    memory.memory.advance(59.0)
    assert memory.kvs()
    memory.memory.advance(1.0)
    assert not memory.kvs()


def test_a_member_of_a_run_that_is_gone_writes_nothing_more(memory: Place) -> None:
    """A process that was suspended past the retention cannot leave keys that nobody removes."""
    store = memory.memory_client()
    member = memory.join("worker", 0, store=store, policy=SHORT, ttl=2)
    store.cut()
    memory.memory.advance(60.0)
    assert not memory.kvs()
    store.heal()
    ended = call(member.share, "k", 1)
    memory.until(ended.done)
    assert isinstance(raised(ended), SlotLostError)
    assert not memory.kvs()
