"""Histories that break what barriers promise."""

from __future__ import annotations

from attrs import evolve

from faults.history import Call, History
from faults.spoil import begun, breaks
from faults.story import RUN_LEASE, sound
from psbarrier.protocol.barrier_records import BarrierRecord, Broken
from psbarrier.protocol.keys import Attempt


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
