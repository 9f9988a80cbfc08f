"""How a task ends, how the job ends with it, and who learns what."""

from __future__ import annotations

import time
from typing import Any

import pytest
from jobs import JOB, PATIENCE, TWO, Losing, Place, call, raised, returned

from psbarrier import Member, Policy
from psbarrier.errors import (
    JobFailedError,
    JobOverError,
    JobTimeoutError,
    SlotLostError,
)

FORGIVING = Policy(max_restarts=2)


def lost(place: Place, watcher: Member) -> dict[str, str]:
    """Who is away, as `watcher` has heard."""
    return {str(task): loss.why for task, loss in watcher._view.gone.lost.items()}


# -- the five ways


def test_a_finished_task_is_no_loss(place: Place) -> None:
    """Its lease may go: the job waits for the others as if it were there."""
    first, second, third = place.start({"worker": 3})
    third.finish()
    third.close()
    place.until(lambda: third.task in first._view.gone.finished)
    assert not lost(place, first)
    assert not place.over()
    first.finish()
    second.finish()
    assert first.wait_job(PATIENCE).phase == "succeeded"


def test_a_crash_uses_up_a_restart_and_the_last_one_fails_the_job_at_once(place: Place) -> None:
    """Crashes are counted over the incarnations of one task; nobody waits for a grace."""
    watcher, member = place.start(TWO, policy=FORGIVING)
    for restarts in range(3):
        assert member.restarts == restarts
        assert not place.over()
        member.crash("out of memory", 137)
        member.close()
        if restarts < 2:
            member = place.join("worker", 1, policy=FORGIVING)
    state = watcher.wait_job(PATIENCE)
    assert (state.phase, state.by, state.exit_code) == ("failed", "worker/1", 137)
    assert "out of memory" in state.reason
    assert "its 2 restarts" in state.reason


def test_a_crash_is_told_to_the_others_by_its_reason(place: Place) -> None:
    """While it is away, "crashed" and the text stand where "lost" would."""
    watcher, member = place.start(TWO, policy=FORGIVING)
    member.crash("division by zero")
    place.until(lambda: "crashed" in lost(place, watcher).get("worker/1", ""))
    assert "division by zero" in lost(place, watcher)["worker/1"]


def test_a_lost_task_has_its_grace_to_come_back(place: Place) -> None:
    """A loss is no crash: no restart is used up, and within the grace nothing fails."""
    watcher, member = place.start(TWO)
    place.lose(member)
    place.until(lambda: lost(place, watcher).get("worker/1", "").startswith("lost at "))
    again = place.join("worker", 1)
    assert again.restarts == 0
    place.until(lambda: not lost(place, watcher))
    assert not place.over()


def test_a_lost_task_that_stays_away_fails_the_job(place: Place) -> None:
    """After the grace, and by the name of who is missing."""
    policy = Policy(loss_grace=1.0)
    watcher, member = place.start(TWO, policy=policy)
    place.lose(member)
    waiting = call(watcher.wait_job, None)
    place.until(waiting.done)
    state = returned(waiting)
    assert (state.phase, state.by) == ("failed", "worker/1")
    assert "did not come back within 1 s" in state.reason


def test_a_task_that_left_is_treated_as_lost_and_said_to_have_left(place: Place) -> None:
    """A preemption is nobody's fault: no restart is used up, and the task may come back."""
    watcher, member = place.start(TWO)
    member.leave("the node is drained")
    place.until(lambda: lost(place, watcher).get("worker/1", "").startswith("left at "))
    assert "the node is drained" in lost(place, watcher)["worker/1"]
    member.close()
    assert place.join("worker", 1).restarts == 0
    assert not place.over()


def test_fail_ends_the_job_for_everybody_and_the_first_error_wins(place: Place) -> None:
    """Whoever comes second learns what the first one said."""
    first, second = place.start(TWO)
    state = first.fail("loss is\nNaN", 3)
    assert (state.by, state.reason, state.exit_code) == ("worker/0", "loss is NaN", 3)
    assert second.fail("the other one has gone", 4) == state
    assert second.wait_job(PATIENCE) == state
    for member in (first, second):
        with pytest.raises(JobFailedError, match="loss is NaN"):
            member.finish()


# -- finishing


def test_finishing_twice_counts_once(place: Place) -> None:
    """A job of two is not done when one of them says so twice."""
    first, second = place.start(TWO)
    first.finish()
    first.finish()
    assert not place.over()
    second.finish()
    assert first.wait_job(PATIENCE).phase == "succeeded"


@pytest.mark.parametrize("applied", [False, True])
def test_a_finish_whose_reply_is_lost_counts_once(memory: Place, applied: bool) -> None:
    """Repeating it is harmless."""
    store = Losing(memory.client(), "/ticks/finish/", applied)
    first, second = memory.join("worker", 0, store=store), memory.join("worker", 1)
    first.finish()
    assert store.lost
    assert not memory.over()
    second.finish()
    assert first.wait_job(PATIENCE).phase == "succeeded"


def test_finishing_after_the_success_does_nothing(place: Place) -> None:
    """A ps may finish, or not; the job is done."""
    ps, *workers = place.start(JOB)
    for worker in workers:
        worker.finish()
    assert ps.wait_job(PATIENCE).phase == "succeeded"
    ps.finish()


def test_finishing_is_refused_to_who_has_crashed(place: Place) -> None:
    """A reported crash cannot be taken back."""
    _, member = place.start(TWO, policy=FORGIVING)
    member.crash("broken")
    with pytest.raises(SlotLostError):
        member.finish()


@pytest.mark.parametrize(
    ("replicas", "success", "deciding"),
    [
        ({"chief": 1, "ps": 1, "worker": 1}, None, ["chief/0"]),
        ({"ps": 1, "worker": 2}, None, ["worker/0", "worker/1"]),
        ({"ps": 2}, None, ["ps/0", "ps/1"]),
        ({"chief": 1, "ps": 1, "worker": 1}, ("worker", "chief"), ["worker/0", "chief/0"]),
        ({"chief": 1, "worker": 2}, "worker", ["worker/1", "worker/0"]),
    ],
)
def test_the_policy_says_whose_finishing_is_success(
    place: Place, replicas: dict[str, int], success: Any, deciding: list[str]
) -> None:
    """The job succeeds with the last of the tasks that decide, not before, and no other task matters."""
    members = {str(member.task): member for member in place.start(replicas, policy=Policy(success=success))}
    for task in members.keys() - set(deciding):
        members[task].finish()
    for task in deciding:
        assert not place.over()
        members[task].finish()
    for member in members.values():
        assert member.wait_job(PATIENCE).phase == "succeeded"


def test_a_ps_learns_of_the_end_within_two_seconds(real: Place) -> None:
    """Parameter servers end by themselves when the work is done."""
    ps, *workers = real.start(JOB)
    waiting = call(ps.wait_job)
    for worker in workers:
        worker.finish()
    done = time.monotonic()
    assert returned(waiting).phase == "succeeded"
    assert time.monotonic() - done <= 2.0


def test_waiting_for_the_end_has_a_deadline_that_names_who_still_runs(place: Place) -> None:
    """Nobody has to guess which worker is the slow one."""
    ps, first, second = place.start(JOB)
    first.finish()
    place.until(lambda: first.task in ps._view.gone.finished)
    waiting = call(ps.wait_job, 0.5)
    place.until(waiting.done)
    error = raised(waiting)
    assert isinstance(error, JobTimeoutError)
    assert error.missing == {str(second.task): "running"}


# -- the grace


def test_the_grace_is_set_per_role(memory: Place) -> None:
    """A lost ps may be given up later than a lost worker."""
    policy = Policy(loss_grace={"ps": 100.0, "worker": 5.0})
    ps, first, second = memory.start(JOB, policy=policy)
    memory.lose(ps)
    memory.until(lambda: lost(memory, first), step=0.3)
    began = memory.store.clock.now()
    memory.until(lambda: memory.store.clock.now() > began + 50.0, step=1.0)
    assert not memory.over()
    memory.lose(second)
    memory.until(lambda: first.job_state.over, step=0.3)
    assert first.job_state.by == "worker/1"
    assert memory.store.clock.now() < began + 100.0


def test_a_new_leader_gives_the_whole_grace_again(memory: Place) -> None:
    """When the leader dies during a grace, another takes over, and nobody is given up too early."""
    policy = Policy(loss_grace=20.0)
    leader, second, third = memory.start({"worker": 3}, policy=policy)
    memory.lose(third)
    memory.until(lambda: lost(memory, second))
    memory.memory.advance(15.0)
    memory.lose(leader)
    memory.until(lambda: second._view.leader is not None and second._view.leader.task == "worker/1", step=0)
    taken_over = memory.store.clock.now()
    memory.until(lambda: second.job_state.over, step=0.3)
    assert memory.store.clock.now() >= taken_over + 20.0
    assert second.job_state.by in ("worker/0", "worker/2")


def test_a_job_that_is_over_stays_as_it_ended(place: Place) -> None:
    """No loss, crash or failure after the success changes it."""
    ps, *workers = place.start(JOB)
    for worker in workers:
        worker.finish()
    assert ps.wait_job(PATIENCE).phase == "succeeded"
    assert ps.fail("too late").phase == "succeeded"
    ps.crash("too late")
    place.lose(ps)
    with pytest.raises(JobOverError):
        place.join("ps", 0, replicas=JOB)
