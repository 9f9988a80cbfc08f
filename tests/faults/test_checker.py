"""The checker can fail: each promise is broken in a history made by hand, and the checker names it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from faults.checker import check
from faults.history import Beat, Call, Ended, History
from faults.story import ROOT, RUN_LEASE, Story, sound
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord, Broken
from psbarrier.protocol.keys import Attempt
from psbarrier.protocol.records import Departure, pack_state
from psbarrier.state import JobState

Spoil = Callable[[], History]
SPOILS: list[tuple[str, Spoil]] = []


def breaks(promise: str) -> Callable[[Spoil], Spoil]:
    def register(spoil: Spoil) -> Spoil:
        SPOILS.append((promise, spoil))
        return spoil

    return register


def begun() -> Story:
    story = Story()
    story.begin()
    return story


@breaks("record")
def a_revision_was_missed() -> History:
    history = sound().history()
    return evolve(history, revisions=history.revisions[:3] + history.revisions[4:])


@breaks("error")
def something_unexpected_was_raised() -> History:
    story = sound()
    story.spoil(0, unexpected=("KeyError: 'x'",))
    return story.history()


@breaks("error")
def a_process_died_of_itself() -> History:
    return sound().history(ended=(Ended("worker/0", 1, -11, 110.0),))


@breaks("end")
def the_job_never_ended() -> History:
    return begun().history()


@breaks("end")
def a_process_did_not_end() -> History:
    return sound().history(lasting=("worker/0 (1)",))


@breaks("left")
def a_key_stayed() -> History:
    return sound().history(left=(f"{ROOT}config",))


@breaks("left")
def a_lease_stayed() -> History:
    return sound().history(leases=("7",))


@breaks("deadline")
def a_call_ended_late() -> History:
    story = sound()
    story.spoil(0, calls=(*story.processes[0].calls, Call("get", 100.0, 107.5, 5.0, {"key": "x"})))
    return story.history()


@breaks("deadline")
def a_call_never_ended() -> History:
    story = sound()
    story.spoil(0, calls=(*story.processes[0].calls, Call("get", 100.0, None, 1.0, {"key": "x"})), last=110.0)
    return story.history()


@breaks("once")
def a_transaction_was_applied_twice() -> History:
    story = sound()
    for _ in range(2):
        story.apply({"/user/worker/0": (b"a/1", 1)})
    story.spoil(0, calls=(*story.processes[0].calls, Call("checkpoint", 100.0, 101.0, 10.0, {"unique": "a/1"}, True)))
    return story.history()


@breaks("once")
def a_confirmed_transaction_was_not_applied() -> History:
    story = sound()
    story.spoil(0, calls=(*story.processes[0].calls, Call("checkpoint", 100.0, 101.0, 10.0, {"unique": "a/1"}, True)))
    return story.history()


@breaks("token")
def a_token_is_not_the_registrations() -> History:
    story = sound()
    standing = story.processes[0].standing
    assert standing is not None
    story.spoil(0, standing=evolve(standing, token=4))
    return story.history()


@breaks("slot")
def one_registered_over_another() -> History:
    story = begun()
    story.apply({"members/worker/1": story.registration(1, "c")})
    return story.history()


@breaks("authority")
def one_wrote_without_its_task() -> History:
    story = begun()
    story.lose(1)
    story.join(1, "c")
    revision = story.apply({"control/shared/x": (b"{}", RUN_LEASE)})
    story.process(1, "b", 5, writes=(story.write(revision, 1, 5, "control/shared/x"),))
    return story.history()


@breaks("leader")
def nobody_led() -> History:
    story = begun()
    story.apply({}, ["control/leader"])
    story.seal(2, "a", "b")
    return story.history()


@breaks("leader")
def a_former_leader_wrote() -> History:
    story = begun()
    story.apply({}, ["control/leader"])
    story.lead(1, "b")
    revision = story.seal(2, "a", "b")
    story.process(0, "a", 3, writes=(story.write(revision, 0, 3, "control/cluster"),))
    return story.history()


@breaks("gone")
def one_who_is_there_was_listed_as_lost() -> History:
    story = begun()
    story.gone({"worker/1": "b"})
    return story.history()


@breaks("lost")
def a_loss_that_never_was() -> History:
    story = sound()
    story.spoil(0, calls=(*story.processes[0].calls, lost_at(105.0)))
    return evolve(story.history(), revisions=tuple(story.revisions[:5]))


@breaks("lost")
def a_loss_that_was_its_own_doing() -> History:
    story = begun()
    told = story.now + 0.5
    story.lose(1)
    story.process(1, "b", 5, lost_at(told), beats=(story.beat(1, told - 0.6),), revokes=((2, told),))
    return story.history()


@breaks("certain")
def a_guard_after_the_lease_had_ended() -> History:
    story = begun()
    story.lose(1)
    story.process(1, "b", 5, Call("guard", story.now + 1, story.now + 1))
    return story.history()


@breaks("release")
def a_release_by_all_but_one() -> History:
    story = begun()
    story.arrive(0, "a", release=True)
    return story.history()


@breaks("arrival")
def one_arrived_for_another() -> History:
    story = begun()
    story.arrive(0, "b")
    return story.history()


@breaks("arrival")
def one_arrived_after_the_end() -> History:
    story = begun()
    story.end()
    story.arrive(0, "a")
    return story.history()


@breaks("outcome")
def what_was_broken_was_released() -> History:
    story = begun()
    broken = BarrierRecord(Attempt(), Broken("worker/0", "timeout"), None)
    story.apply({"control/barriers/epoch": (broken.pack(), RUN_LEASE)})
    story.meet()
    return story.history()


@breaks("outcome")
def one_was_told_that_what_was_released_is_broken() -> History:
    story = sound()
    kinds = ("BarrierTimeoutError", "BarrierBrokenError")
    story.spoil(0, calls=(evolve(story.wait(100.0, 0), result=None, error=kinds[0], kinds=kinds),))
    return story.history()


@breaks("barrier")
def a_barrier_went_back() -> History:
    story = begun()
    for round_ in (2, 1):
        story.apply({"control/barriers/epoch": (BarrierRecord(Attempt(0, round_)).pack(), RUN_LEASE)})
    return story.history()


@breaks("told")
def one_was_released_who_had_not_arrived() -> History:
    story = sound()
    wait = story.processes[0].calls[1]
    story.spoil(0, calls=(evolve(wait, args={**wait.args, "number": 2}),))
    return story.history()


@breaks("told")
def one_was_told_that_what_goes_on_is_over() -> History:
    story = begun()
    story.process(0, "a", 3, story.wait(101.0, -1))
    return story.history()


@breaks("order")
def two_came_as_the_same() -> History:
    story = sound()
    calls = [evolve(call, result=0) if call.name == "wait" else call for call in story.processes[1].calls]
    story.spoil(1, calls=tuple(calls))
    return story.history()


@breaks("early")
def one_was_released_before_another_had_called() -> History:
    story = sound()
    calls = [evolve(call, begin=109.0, end=109.5) if call.name == "wait" else call for call in story.processes[1].calls]
    story.spoil(1, calls=tuple(calls))
    return story.history()


@breaks("news")
def one_heard_late_of_a_release() -> History:
    story = sound()
    calls = [evolve(call, end=121.0) if call.name == "wait" else call for call in story.processes[0].calls]
    story.spoil(0, calls=tuple(calls))
    return story.history()


@breaks("news")
def one_heard_late_of_a_value() -> History:
    story = sound()
    story.apply({"control/shared/x": (b"{}", RUN_LEASE)})
    story.spoil(0, calls=(Call("get", 101.0, story.now + 8, 15.0, {"key": "x"}),))
    return story.history()


@breaks("news")
def one_never_heard_of_its_loss() -> History:
    story = begun()
    story.lose(1)
    story.process(1, "b", 5, Call("wait_job", 104.0, story.now + 30))
    return story.history()


@breaks("state")
def an_end_was_written_twice() -> History:
    story = sound()
    story.apply({"control/state": (pack_state(JobState("failed", "worker/0", "x", 1, 1.0)), RUN_LEASE)})
    return story.history()


@breaks("state")
def a_success_without_all() -> History:
    story = begun()
    story.finish(0, "a", state=True)
    return story.history()


@breaks("state")
def one_was_told_another_end() -> History:
    story = sound()
    story.spoil(0, calls=(Call("wait_job", 104.0, 105.0, result="failed"),))
    return story.history()


@breaks("grace")
def one_was_given_up_who_is_back() -> History:
    story = begun()
    state = JobState("failed", "worker/1", "worker/1 was lost, and did not come back within 2 s", 1, 1.0)
    story.apply({"control/state": (pack_state(state), RUN_LEASE)})
    return story.history()


@breaks("finish")
def one_finished_twice() -> History:
    story = begun()
    story.finish(0, "a")
    story.finish(0, "a")
    return story.history()


@breaks("finish")
def one_was_told_so_and_has_not() -> History:
    story = begun()
    story.process(0, "a", 3, Call("finish", 104.0, 105.0, 60.0))
    return story.history()


def crash(story: Story, incarnation: str, index: int = 1) -> None:
    departure = Departure(incarnation, "crashed", "a bug", 1, 1.0)
    story.apply(
        {
            f"departures/worker/{index}": (departure.pack(), RUN_LEASE),
            f"ticks/crashes/worker/{index}": (b"", RUN_LEASE),
        },
        [f"members/worker/{index}"],
    )


@breaks("crash")
def one_crash_was_counted_twice() -> History:
    story = begun()
    crash(story, "b")
    crash(story, "b")
    return story.history()


@breaks("crash")
def a_crash_too_many_was_forgiven() -> History:
    story = begun()
    for incarnation in ("b", "c"):
        crash(story, incarnation)
        story.join(1, f"{incarnation}+")
    return story.history()


@breaks("run")
def a_run_went_under_its_members() -> History:
    story = begun()
    story.apply({}, ["config", "control/cluster", "cluster/0000000001"])
    return story.history()


@breaks("epoch")
def an_epoch_was_left_out() -> History:
    story = begun()
    story.seal(3, "a", "b")
    return story.history()


@breaks("epoch")
def one_got_another_spec() -> History:
    story = sound()
    story.spoil(0, calls=(story.cluster(1, "a", "x"),))
    return story.history()


@breaks("gate")
def one_passed_who_is_not_named() -> History:
    story = begun()
    story.lose(1)
    token = story.join(1, "c")
    story.process(1, "c", token, story.cluster(1, "a", "b"))
    return story.history()


def lost_at(end: float) -> Call:
    return Call("wait_job", end - 1, end, error="SlotLostError", kinds=("SlotLostError", "StoreError"), text="lost")


def test_a_sound_history_breaks_no_promise() -> None:
    """Or the checks of the others would mean nothing."""
    assert check(sound().history()) == []


@pytest.mark.parametrize(("promise", "spoil"), SPOILS, ids=[f"{name}-{spoil.__name__}" for name, spoil in SPOILS])
def test_a_broken_promise_is_named(promise: str, spoil: Spoil) -> None:
    """By the check that is about it."""
    assert promise in {violation.promise for violation in check(spoil())}


def test_time_in_which_a_process_did_not_run_is_excused() -> None:
    """Exactly as much as was measured."""
    story = sound()
    calls = (*story.processes[0].calls, Call("get", 100.0, 107.5, 5.0, {"key": "x"}))
    story.spoil(0, calls=calls, late=((101.0, 102.6),))
    assert check(story.history()) == []
    story.spoil(0, late=((101.0, 102.4),))
    assert [violation.promise for violation in check(story.history())] == ["deadline"]


def test_a_lease_that_could_have_run_out_explains_a_loss() -> None:
    """Its last confirmed beat is older than its TTL."""
    story = begun()
    told = story.now + 1.2
    story.lose(1)
    story.process(1, "b", 5, lost_at(told), beats=(Beat(2, told - 5, 2, told - 5),), revokes=((2, told),))
    assert "lost" not in {violation.promise for violation in check(story.history())}


def test_a_revocation_by_another_explains_a_loss() -> None:
    """A second process that takes the task by force, or an operator."""
    story = begun()
    told = story.now + 1.2
    story.lose(1)
    story.process(1, "b", 5, lost_at(told), beats=(Beat(2, told - 1, 2, told - 1),), revokes=((2, told),))
    assert "lost" not in {violation.promise for violation in check(story.history(revokes=((2, told - 0.3),)))}


def test_the_same_name_of_a_run_may_be_used_again() -> None:
    """What was lost from etcd with its lease begins anew: its epochs, its barriers, its end."""
    story = begun()
    story.meet()
    story.apply({}, [change.key for revision in story.revisions for change in revision.changes])
    story.begin()
    story.meet()
    story.end()
    assert check(story.history(revokes=((RUN_LEASE, 103.0),))) == []


def test_arrivals_of_an_earlier_round_do_not_count() -> None:
    """A release needs all parties in the round that is released."""
    story = begun()
    story.arrive(0, "a")
    story.apply({"control/barriers/epoch": (BarrierRecord(Attempt(0, 1)).pack(), RUN_LEASE)})
    at = Attempt(0, 1)
    arrival = Arrival("b", 1).pack(), RUN_LEASE
    release = BarrierRecord(Attempt(1), None, at).pack(), RUN_LEASE
    story.apply({f"arrivals/epoch/{at}/worker/1": arrival, "control/barriers/epoch": release})
    assert "release" in {violation.promise for violation in check(story.history())}


def test_what_a_process_wrote_while_it_held_its_task_is_its_own() -> None:
    """Only what comes after the loss is without authority."""
    story = sound()
    writes = (story.write(7, 0, 3, "arrivals"), story.write(9, 0, 3, "members/worker/0"))
    story.spoil(0, writes=writes)
    assert check(story.history()) == []
