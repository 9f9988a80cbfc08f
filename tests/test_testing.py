"""psbarrier.testing: a job in memory does what a job of processes does, without real time and without leaving threads."""

from __future__ import annotations

import doctest
import threading

import pytest
from helpers import eventually

import psbarrier
from psbarrier import (
    BarrierBrokenError,
    ClosedError,
    InvalidArgumentError,
    JobFailedError,
    Member,
    MemberState,
    Policy,
    testing,
)
from psbarrier.testing import MemoryStore, job

TIMEOUT = 30.0


def meet(me: Member) -> int:
    return me.barrier("epoch", roles=("worker",)).wait(timeout=60)


def test_the_examples_in_the_docstrings_are_true() -> None:
    """Each of them runs as it stands there."""
    outcome = doctest.testmod(testing)
    assert outcome.attempted == 3
    assert outcome.failed == 0


def test_all_members_pass_one_gate() -> None:
    """The spec is the same for all, and names all."""
    with job(ps=2, worker=3) as j:
        spec = j.cluster()
        assert [str(member.task) for member in j] == ["ps/0", "ps/1", "worker/0", "worker/1", "worker/2"]
        assert all(member.cluster() == spec for member in j)
        assert spec.addresses("ps") == [j["ps/0"].address, j["ps/1"].address]
        assert len(j) == 5


def test_roles_are_free_and_zero_leaves_one_out() -> None:
    """No role is special to a job."""
    with job(ps=0, worker=1, chief=1) as j:
        assert str(j.cluster()) == "chief=1,worker=1"


def test_a_job_finishes_for_all() -> None:
    """Once the workers have finished, a ps learns that the job has succeeded."""
    with job(ps=1, worker=2) as j:
        j.cluster()
        j.together(lambda me: me.finish(), "worker/0", "worker/1")
        assert j["ps/0"].wait_job().phase == "succeeded"


def test_a_killed_member_is_replaced_by_another_incarnation() -> None:
    """Its task goes on under a new epoch, with a new address and a higher fencing token; the others stay."""
    with job(ps=1, worker=2) as j:
        before, old = j.cluster(), j["worker/1"]
        j.kill("worker/1")
        with pytest.raises(ClosedError):
            old.cluster()
        with pytest.raises(InvalidArgumentError, match="worker/1 does not run"):
            j["worker/1"]
        with pytest.raises(InvalidArgumentError, match="worker/1 was killed"):
            j.cluster()
        new = j.restart("worker/1")
        after = j.cluster()
        assert after.epoch == before.epoch + 1
        assert new.token > old.token
        assert after.member(new.task).address == new.address != old.address
        assert after.member(j["ps/0"].task) == before.member(j["ps/0"].task)


def test_a_restart_of_a_living_member_kills_it_first() -> None:
    """Two incarnations never hold one task."""
    with job(ps=1, worker=1) as j:
        j.cluster()
        old = j["worker/0"]
        assert j.restart("worker/0").incarnation != old.incarnation
        assert old.state is MemberState.CLOSED
        assert j.cluster().epoch == 2


def test_a_member_that_stays_dead_fails_the_job_when_its_grace_is_over() -> None:
    """The grace runs on the job's clock, and takes no real time."""
    with job(ps=1, worker=2, policy=Policy(loss_grace=3600)) as j:
        j.cluster()
        waits = j.start(lambda me: me.wait_job(timeout=None), "ps/0", "worker/0")
        j.kill("worker/1")

        def over() -> bool:
            j.advance(600)  # more than once, for the leader only begins to count when it has looked
            return all(wait.done() for wait in waits.values())

        assert eventually(over, TIMEOUT)
        assert {wait.result().by for wait in waits.values()} == {"worker/1"}
        with pytest.raises(JobFailedError, match="worker/1"):
            j["worker/0"].cluster()


def test_the_leader_may_be_killed() -> None:
    """Whoever joined first leads; another takes over by itself."""
    with job(ps=1, worker=2) as j:
        j.cluster()
        j.kill("ps/0")
        j.restart("ps/0")
        assert j.cluster().epoch == 2


def test_one_member_can_be_cut_off_alone() -> None:
    """It is suspended after a TTL without an answer, and the others are not."""
    with job(ps=1, worker=2, ttl=10) as j:
        j.cluster()
        j.client("worker/1").cut()
        j.advance(9)
        assert [member.state.value for member in j] == ["connected", "connected", "connected"]
        j.advance(2)
        assert [member.state.value for member in j] == ["connected", "connected", "suspended"]
        j.client("worker/1").heal()
        assert eventually(lambda: j["worker/1"].state is MemberState.LOST)


def test_a_deadline_passes_when_the_clock_is_moved() -> None:
    """`await_waiting` says when a thread is there to be reached, so no test needs to sleep."""
    with job(ps=1, worker=2) as j:
        waits = j.start(meet, "worker/0")
        j.await_waiting("worker/0")
        j.advance(59.9)
        assert not waits["worker/0"].done()
        j.advance(0.2)
        with pytest.raises(BarrierBrokenError) as caught:
            waits["worker/0"].result(TIMEOUT)
        assert list(caught.value.missing) == ["worker/1"]


def test_together_raises_what_a_member_raised() -> None:
    """Nobody has to look at every result for an error."""
    with job(ps=1, worker=1) as j, pytest.raises(InvalidArgumentError, match="no party"):
        j.together(meet)


def test_a_thread_that_waits_in_a_killed_member_gets_an_error() -> None:
    """It does not hang, and does not hold up the end of the test."""
    with job(ps=1, worker=2) as j:
        waits = j.start(meet, "worker/0")
        j.await_waiting("worker/0")
        j.kill("worker/0")
        with pytest.raises(ClosedError):
            waits["worker/0"].result(TIMEOUT)


def test_two_jobs_may_share_a_store() -> None:
    """They have one clock, and nothing else in common; the store outlives them."""
    with MemoryStore() as store:
        with job(ps=1, worker=1, store=store, name="a") as a, job(ps=1, worker=1, store=store, name="b") as b:
            a.cluster()
            a.together(lambda me: me.finish())
            assert b["ps/0"].job_state.phase == "running"
            assert str(b.cluster()) == "ps=1,worker=1"
        assert "closed" not in repr(store)


@pytest.mark.parametrize("cut", [False, True], ids=["connected", "cut off"])
def test_nothing_is_left_of_a_closed_job(cut: bool) -> None:
    """No thread lives on, even when some wait, or are cut off; and closing twice is fine."""
    before = set(threading.enumerate())
    with job(ps=1, worker=2) as j:
        waits = j.start(meet, "worker/0")
        j.await_waiting("worker/0")
        if cut:
            j.store.stop()
        assert repr(j) == "<Job 'job' of ps=1,worker=2: 3 members>"
    with pytest.raises(ClosedError):
        waits["worker/0"].result(TIMEOUT)
    assert eventually(lambda: set(threading.enumerate()) <= before)
    j.close()
    with pytest.raises(InvalidArgumentError, match="with block"):
        j.start(meet)


def test_a_job_that_cannot_be_joined_leaves_no_thread() -> None:
    """An impossible policy is refused by join(), as it would be in a process."""
    before = set(threading.enumerate())
    with pytest.raises(psbarrier.InvalidArgumentError), job(worker=1, policy=Policy(success=("cheif",))):
        pass
    assert eventually(lambda: set(threading.enumerate()) <= before)
