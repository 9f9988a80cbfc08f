"""Histories that break what the end of a task, of a job and of an epoch promises."""

from __future__ import annotations

from faults.history import Call, History
from faults.spoil import begun, breaks
from faults.story import RUN_LEASE, Story, sound
from psbarrier.protocol.records import Departure, pack_state
from psbarrier.state import JobState


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
