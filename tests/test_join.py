"""Joining: who gets which slot of which run, and what is said to who gets none."""

from __future__ import annotations

import os
import socket

import pytest
from jobs import TWO, Counting, Place, call, raised, returned

from psbarrier import Policy
from psbarrier.errors import (
    AlreadyFinishedError,
    JobFailedError,
    JobMismatchError,
    JobOverError,
    SlotLostError,
    SlotTakenError,
)
from psbarrier.state import MemberState
from psbarrier.store.base import Compare, Put, Range, Txn

EIGHT = {"worker": 8}


# -- slots and tokens


def test_tokens_grow_with_each_incarnation(place: Place) -> None:
    """A later incarnation of any task has a higher fencing token than every earlier one."""
    tokens = []
    for index in (0, 1, 0, 1, 0):
        member = place.join("worker", index)
        tokens.append(member.token)
        member.close()
    assert tokens == sorted(set(tokens))


def test_without_an_index_the_lowest_free_slot_is_taken(place: Place) -> None:
    """Whoever does not care fills the gaps from below."""
    members = [place.join("worker", replicas={"worker": 3}) for _ in range(3)]
    assert [member.task.index for member in members] == [0, 1, 2]
    members[1].close()
    assert place.join("worker", replicas={"worker": 3}).task.index == 1


def test_eight_at_once_get_eight_slots_for_a_few_requests_each(place: Place) -> None:
    """Processes that start at the same moment without an index neither collide nor storm the store."""
    stores = [Counting(place.client()) for _ in range(8)]
    calls = [call(place.join, "worker", replicas=EIGHT, store=store) for store in stores]
    assert sorted(returned(joined).task.index for joined in calls) == list(range(8))
    # Alone it takes a handful; a collision costs two more.
    assert max(store.requests for store in stores) <= 40
    assert sum(store.requests for store in stores) <= 200


def test_a_spare_process_waits_for_a_slot_that_may_become_free(place: Place) -> None:
    """Without an index, a finished task's slot counts for nothing: the spare waits for the one that is held."""
    first, second = place.start(TWO)
    first.finish()
    spare = call(place.join, "worker")
    place.until(lambda: any("/ticks/slots/" in kv.key for kv in place.kvs()), step=0)
    place.lose(second)
    assert returned(spare).task == second.task


def test_a_spare_process_is_told_when_every_task_has_finished(place: Place) -> None:
    """There is nothing left to do for one more ps, so it is not kept waiting."""
    chief, ps = (
        place.join("chief", 0, replicas={"chief": 1, "ps": 1}),
        place.join("ps", 0, replicas={"chief": 1, "ps": 1}),
    )
    ps.finish()
    with pytest.raises(AlreadyFinishedError, match="ps/0"):
        place.join("ps", replicas={"chief": 1, "ps": 1})
    assert chief.state is MemberState.CONNECTED


# -- runs


def test_several_at_once_found_exactly_one_run(place: Place) -> None:
    """Processes that name no run all end up in the same one."""
    before = place.leases()
    calls = [call(place.join, "worker", index, run=None, replicas=EIGHT) for index in range(8)]
    runs = {returned(joined).run for joined in calls}
    assert len(runs) == 1
    assert len(place.leases() - before) == 8 + 1  # the run's, and none of those who founded it in vain
    assert {key.split("/")[1] for key in place.names() if key.startswith("runs/")} == runs


def test_when_the_current_run_is_over_a_new_one_begins(place: Place) -> None:
    """Starting a job again after its end is a new run; the ended one is not touched."""
    first = place.join("worker", 0, run=None, replicas={"worker": 1})
    first.finish()
    second = place.join("worker", 0, run=None, replicas={"worker": 1})
    assert second.run != first.run
    assert first.job_state.phase == "succeeded"


def test_an_abandoned_run_is_closed_as_failed_by_whoever_comes_next(place: Place) -> None:
    """A run that every process has left is not resumed: it ends as failed, and says why."""
    first = place.join("worker", 0, run=None)
    first.close()
    second = place.join("worker", 0, run=None)
    assert second.run != first.run
    with pytest.raises(JobFailedError, match="abandoned") as failed:
        place.join("worker", 0, run=first.run)
    assert (failed.value.by, failed.value.exit_code) == ("nobody", 1)


def test_a_named_run_is_resumed_by_whoever_comes_back(place: Place) -> None:
    """Manifests name their run, so all their Pods may be away for a moment."""
    first = place.join("worker", 0)
    first.close()
    assert place.join("worker", 0).run == first.run


@pytest.mark.parametrize(("end", "error"), [("finish", JobOverError), ("fail", JobFailedError)])
def test_joining_a_run_that_is_over_says_how_it_ended(place: Place, end: str, error: type[JobOverError]) -> None:
    """A named run is never started a second time."""
    chief = place.join("chief", 0, replicas={"chief": 1, "worker": 1})
    if end == "finish":
        chief.finish()
    else:
        chief.fail("no more disk", 7)
    with pytest.raises(error) as over:
        place.join("worker", 0, replicas={"chief": 1, "worker": 1})
    if isinstance(over.value, JobFailedError):
        assert (over.value.by, over.value.reason, over.value.exit_code) == ("chief/0", "no more disk", 7)
        assert "chief/0" in str(over.value)
        assert "no more disk" in str(over.value)


def test_a_finished_task_is_not_started_again(place: Place) -> None:
    """Kubernetes may restart a Pod whose work is done; it learns so at once."""
    first, _ = place.start(TWO)
    first.finish()
    first.close()
    with pytest.raises(AlreadyFinishedError, match="worker/0") as done:
        place.join("worker", 0)
    assert done.value.task == "worker/0"


def test_processes_that_disagree_about_the_job_are_refused_with_both_sides(place: Place) -> None:
    """The error shows what each side means, so that one look is enough."""
    place.join("worker", 0, replicas=TWO)
    with pytest.raises(JobMismatchError) as mismatch:
        place.join("worker", 1, replicas={"worker": 3})
    assert mismatch.value.ours["replicas"] == {"worker": 3}
    assert mismatch.value.theirs["replicas"] == {"worker": 2}
    assert "{'worker': 3}" in str(mismatch.value)
    assert "{'worker': 2}" in str(mismatch.value)
    with pytest.raises(JobMismatchError, match="policy"):
        place.join("worker", 1, replicas=TWO, policy=Policy(max_restarts=3))


# -- who holds the slot


def test_who_waits_for_a_slot_says_who_holds_it_and_goes_on_at_once(place: Place) -> None:
    """takeover="wait" needs no poll and no second try: the holder's end is the start."""
    holder = place.join("worker", 0, address="holder.example:1")
    said: list[str] = []
    late = call(place.join, "worker", 0, on_progress=lambda progress: said.append(str(progress)))
    place.until(lambda: said)
    assert f"process {os.getpid()} on {socket.gethostname()}" in said[0]
    assert "holder.example:1" in said[0]
    place.lose(holder)
    assert returned(late).token > holder.token


def test_a_slot_that_stays_taken_is_an_error_that_names_the_holder(place: Place) -> None:
    """At the join deadline the caller learns whom to end."""
    place.join("worker", 0, address="holder.example:1")
    late = call(place.join, "worker", 0, timeout=1.0)
    place.until(late.done)
    error = raised(late)
    assert isinstance(error, SlotTakenError)
    assert isinstance(error, TimeoutError)
    assert error.task == "worker/0"
    assert "holder.example:1" in error.holder
    assert error.holder in str(error)


def test_force_fences_the_former_holder(place: Place) -> None:
    """Whatever the former holder still tries for its task is refused, and it learns that it is lost."""
    former, other = place.start(TWO)
    guard = former.guard()
    barrier = former.barrier("b")
    new = place.join("worker", 0, takeover="force")
    assert new.token > former.token
    for act in (lambda: barrier.wait(5), lambda: former.share("k", 1), former.finish):
        with pytest.raises(SlotLostError) as lost:
            act()
        assert lost.value.task == "worker/0"
    assert former.state is MemberState.LOST
    assert not place.apply(Txn(guard, (Put("/psbarrier-test", b""),)))
    assert place.apply(Txn(new.guard()))
    assert other.state is MemberState.CONNECTED


def test_the_guard_is_a_plain_compare(place: Place) -> None:
    """It can be embedded in the user's own transaction."""
    member = place.join("worker", 0)
    assert all(isinstance(compare, Compare) for compare in member.guard())
    assert place.apply(Txn(member.guard(), (Range("/x"),)))
