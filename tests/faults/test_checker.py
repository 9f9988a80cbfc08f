"""The checker can fail: each promise is broken in a history made by hand, and the checker names it."""

from __future__ import annotations

import pytest
from attrs import evolve

from faults import spoilt_endings, spoilt_holds, spoilt_meetings
from faults.checker import check, void
from faults.history import Beat, Call, Ended, Lasting, Past, Write
from faults.spoil import SPOILS, Spoil, begun, lost_at
from faults.story import PLAN, ROOT, RUN_LEASE, sound
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord
from psbarrier.protocol.keys import Attempt

MODULES = {module.__name__ for module in (spoilt_holds, spoilt_meetings, spoilt_endings)}
SPOILT = [(promise, spoil) for promise, spoil in SPOILS if spoil.__module__ in MODULES]


def test_a_sound_history_breaks_no_promise() -> None:
    """Or the checks of the others would mean nothing."""
    assert check(sound().history()) == []


@pytest.mark.parametrize(("promise", "spoil"), SPOILT, ids=[f"{name}-{spoil.__name__}" for name, spoil in SPOILT])
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


def test_an_etcd_that_was_frozen_may_have_revoked_what_its_successor_confirmed() -> None:
    """Old versions do, when they wake up; the lease is then lost although a beat had just been confirmed."""
    story = begun()
    told = story.now + 1.2
    story.lose(1)
    story.process(1, "b", 5, lost_at(told), beats=(Beat(2, told - 1, 2, told - 1),), revokes=((2, told),))
    woken = (Past("etcd: pause leader", told - 5, told - 1),)
    assert "lost" in {violation.promise for violation in check(story.history())}
    assert "lost" not in {violation.promise for violation in check(story.history(faults=woken))}


def test_the_same_name_of_a_run_may_be_used_again() -> None:
    """What was lost from etcd with its lease begins anew: its epochs, its barriers, its end."""
    story = begun()
    story.meet()
    story.apply({}, [change.key for revision in story.revisions for change in revision.changes])
    story.begin()
    story.meet()
    story.end()
    assert check(story.history(revokes=((RUN_LEASE, 103.0),))) == []


def test_who_founds_another_run_may_wait_there() -> None:
    """A process that names no run, and is started a moment after the job was over, cannot know that."""
    story = sound()
    other = ROOT.replace("/runs/run/", "/runs/r9/")
    config = story.apply({f"{other}config": (b"{}", 8)})
    story.process(1, "c", config, writes=(Write(config, (f"{other}members/worker/1",)),), slot="worker/1", serial=4)
    ends = (Ended("worker/1", 4, -6, 150.0),)  # aborted, for its stacks
    named, free = (
        story.history(lasting=(Lasting("worker/1", 4, "its stacks"),), ended=ends),
        evolve(PLAN, named_run=False),
    )
    assert "end" in {violation.promise for violation in check(named)}
    assert not {"end", "error"} & {violation.promise for violation in check(evolve(named, plan=free))}


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


def test_nothing_follows_from_a_round_in_which_etcd_lost_a_change() -> None:
    """Its members' revisions tell; one that did not answer tells nothing."""
    assert void(sound().history(revisions_left=(41, 40, 41))).endswith("at revisions 41, 40, 41")
    assert void(sound().history(revisions_left=(41, None, 41))) == ""
