"""Attaching: the child of a guardian uses the guardian's task, once."""

from __future__ import annotations

import os
from typing import Any

import pytest
from jobs import PATIENCE, TWO, Place, call, raised

import psbarrier
from psbarrier import Member, MemberState, Policy
from psbarrier.errors import AlreadyAttachedError, InvalidArgumentError, RunGoneError, SlotLostError
from psbarrier.protocol.handover import VARIABLE, Handover
from psbarrier.store.base import Store

FORGIVING = Policy(max_restarts=2)


class Family:
    """A guardian that holds worker/0, another member that watches, and the environment that a child would have."""

    def __init__(self, place: Place, patch: pytest.MonkeyPatch) -> None:
        self.place, self.environment = place, patch
        self.guardian = place.join("worker", 0, policy=FORGIVING, ttl=6)
        self.other = place.join("worker", 1, policy=FORGIVING)
        self.other.cluster(PATIENCE)
        self.offer()

    def offer(self) -> None:
        """What the guardian does before it starts a child."""
        me = self.guardian
        (kv,) = [kv for kv in self.place.kvs() if kv.key == me._me.key]
        self.environment.setenv(VARIABLE, Handover(me._me, self.place.store.prefix, kv.mod).pack())

    def attach(self, store: Store | None = None, **options: Any) -> Member:
        """join() as the child calls it."""
        member = psbarrier.join(store or self.place.client(), **options)
        self.place.members.append(member)
        return member


@pytest.fixture
def family(place: Place, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A guardian with a child to come."""
    return Family(place, monkeypatch)


def test_the_child_is_who_its_guardian_is(family: Family) -> None:
    """The same task, incarnation, token and lease; nothing is registered twice."""
    child, guardian = family.attach(), family.guardian
    for name in ("task", "incarnation", "token", "lease", "address", "run", "job", "restarts"):
        assert getattr(child, name) == getattr(guardian, name)
    assert child.state is MemberState.CONNECTED
    assert child.guard() == guardian.guard()
    assert len([kv for kv in family.place.kvs() if "/members/" in kv.key]) == 2
    assert child.cluster(PATIENCE) == guardian.cluster(PATIENCE) == family.other.cluster(PATIENCE)


def test_arguments_that_agree_are_accepted(family: Family) -> None:
    """A program that says who it is runs with and without a guardian."""
    assert (
        family.attach(
            job=family.place.job, role="worker", index=0, replicas=TWO, policy=FORGIVING, run="run", ttl=6
        ).task
        == family.guardian.task
    )


@pytest.mark.parametrize(
    "options",
    [
        {"job": "other"},
        {"role": "ps"},
        {"index": 1},
        {"run": "other"},
        {"ttl": 30},
        {"address": "elsewhere:1"},
        {"replicas": {"worker": 3}},
        {"policy": Policy(max_restarts=9)},
    ],
)
def test_arguments_that_contradict_the_guardian_are_refused(family: Family, options: dict[str, Any]) -> None:
    """The error names the argument and both values, and nothing changes in etcd."""
    before = family.place.kvs()
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        family.attach(**options)
    assert family.place.kvs() == before
    assert family.attach().task == family.guardian.task


def test_only_one_process_attaches(family: Family) -> None:
    """The second one is told the first one's process id, even if it is the same process."""
    first = family.attach()
    with pytest.raises(AlreadyAttachedError, match=f"process {os.getpid()} ") as refused:
        family.attach()
    assert refused.value.task == "worker/0"
    assert first.state is MemberState.CONNECTED
    assert family.guardian.state is MemberState.CONNECTED


def test_the_next_child_attaches_with_the_next_offer(family: Family) -> None:
    """A guardian may start its command again."""
    family.attach().close()
    family.offer()
    assert family.attach().state is MemberState.CONNECTED


def test_a_child_that_closes_leaves_the_lease_to_its_guardian(family: Family) -> None:
    """The guardian decides what the end of the child means."""
    family.attach().close()
    family.place.until(lambda: family.guardian.state is MemberState.CONNECTED, step=0)
    family.guardian.share("alive", True)
    assert family.other.get("alive", PATIENCE) is True


def test_the_childs_finish_is_the_tasks(family: Family) -> None:
    """And the guardian's own, which follows, counts nothing twice."""
    family.attach().finish()
    family.guardian.finish()
    assert not family.place.over()
    family.other.finish()
    assert family.guardian.wait_job(PATIENCE).phase == "succeeded"


def test_a_crash_that_both_report_is_counted_once(family: Family) -> None:
    """The child knows the exception, the guardian the exit code; together they are one crash."""
    with pytest.raises(ZeroDivisionError), family.attach():
        _ = 1 / 0
    family.guardian.crash("exit code 1", 1)
    assert "ZeroDivisionError" in family.place.departure(family.guardian.task)
    family.guardian.close()
    family.environment.delenv(VARIABLE)
    again = family.place.join("worker", 0, policy=FORGIVING)
    assert again.restarts == 1


def test_the_child_goes_on_when_its_guardian_dies(family: Family) -> None:
    """It beats for the same lease itself."""
    child = family.attach()
    family.guardian.abandon()
    place = family.place
    if place.etcd is None:
        for _ in range(10):
            place.memory.advance(3.0)
    assert child.state is MemberState.CONNECTED
    child.share("alive", True)
    assert family.other.get("alive", PATIENCE) is True


def test_both_learn_that_the_task_is_lost(family: Family) -> None:
    """A lease that was revoked by force fences the guardian and its child alike."""
    child = family.attach()
    waiting = call(child.get, "never", None)
    family.place.lose(child)
    family.place.until(lambda: child.state is family.guardian.state is MemberState.LOST)
    assert isinstance(raised(waiting), SlotLostError)


def test_there_is_nothing_to_attach_to_after_a_loss(family: Family) -> None:
    """A late child learns that the task, or the whole run, is gone."""
    family.place.lose(family.guardian)
    with pytest.raises(SlotLostError):
        family.attach()
    run_lease = family.guardian._me.run_lease
    family.place.store.revoke(run_lease, until=family.place.soon())
    with pytest.raises(RunGoneError):
        family.attach()


def test_a_strict_child_is_not_lost_before_its_first_beat(family: Family) -> None:
    """Being new is not being silent."""
    assert family.attach(strict=True).state is MemberState.CONNECTED


@pytest.mark.parametrize("text", ["{}", "nonsense", "[1]", '{"v":2}', '{"v":1,"job":"a"}'])
def test_a_variable_that_nobody_of_ours_wrote_is_named(
    memory: Place, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The way out stands in the error: use psbarrier run, or unset it."""
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InvalidArgumentError, match=VARIABLE):
        psbarrier.join(memory.store, memory.job, "worker", 0, replicas=TWO)


def test_a_lost_reply_to_attaching_is_no_second_attachment(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the first try was applied or not, the child is in, once."""
    for applied in (False, True):
        for number in (1, 2):
            family = Family(memory, monkeypatch)
            store = memory.memory_client()
            plain, count = store.txn, iter(range(1, 100))

            def failing(txn: object, *, until: float) -> object:
                if next(count) == number:  # noqa: B023 (used before the next round)
                    store.fail_next("txn", applied=applied)  # noqa: B023
                return plain(txn, until=until)  # type: ignore[arg-type] # noqa: B023

            store.txn = failing  # type: ignore[method-assign, assignment]
            assert family.attach(store).state is MemberState.CONNECTED
            monkeypatch.delenv(VARIABLE)
            for member in memory.members:
                member.close()
