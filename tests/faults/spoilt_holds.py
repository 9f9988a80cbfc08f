"""Histories that break what calls, and the hold on a task, promise."""

from __future__ import annotations

from attrs import evolve

from faults.history import Call, Ended, History, Lasting
from faults.spoil import begun, breaks, lost_at
from faults.story import ROOT, RUN_LEASE, sound


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
    return sound().history(lasting=(Lasting("worker/0", 1, "its stacks"),))


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
def a_guard_longer_than_a_ttl_after_the_last_beat() -> History:
    story = begun()
    guard = Call("guard", story.now + 2.1, story.now + 2.1)
    story.process(1, "b", 5, guard, beats=(story.beat(1, story.now),))
    return story.history()
