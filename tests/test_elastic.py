"""Elastic roles: a job that starts with as many tasks as come, and goes on when some come or go."""

from __future__ import annotations

from typing import Any

import pytest
from jobs import PATIENCE, Place, arrive, call, raised, rejoin, returned

from psbarrier import Barrier, ClusterSpec, Member, Policy, Task
from psbarrier.errors import (
    BarrierBrokenError,
    BarrierMismatchError,
    BarrierTimeoutError,
    GateTimeoutError,
    InvalidArgumentError,
    JobFailedError,
    JobMismatchError,
    JobOverError,
)

WORKERS = {"worker": (2, 4)}
QUICK = Policy(last_call=0.3, settling=0.3, loss_grace=1.0, max_restarts=3)


def join(place: Place, index: int | None = None, **options: Any) -> Member:
    return place.join("worker", index, **{"replicas": WORKERS, "policy": QUICK, **options})


def started(place: Place, count: int, **options: Any) -> list[Member]:
    """So many workers, all in one epoch."""
    members = [join(place, index, **options) for index in range(count)]
    settled(place, members)
    return members


def settled(place: Place, members: list[Member]) -> ClusterSpec:
    """The epoch of exactly these members, once each of them knows it."""
    tasks = {member.task for member in members}
    for member in members:
        view, me = member._view, member._me
        place.until(lambda: view.names(me) and set(view.members(me.config.replicas, ["worker"])) == tasks)  # noqa: B023
        spec = member.cluster(PATIENCE)
        assert {each.task for each in spec.members} == tasks
    return spec


def barriers(members: list[Member]) -> list[Barrier]:
    return [member.barrier("b") for member in members]


def meet(place: Place, members: list[Member]) -> list[int]:
    """What the barrier tells them, in their order, when all of them come."""
    *first, last = barriers(members)
    waiting = arrive(place, *first)
    order = last.wait(PATIENCE)
    return [*map(returned, waiting), order]


# -- the start


def test_the_most_of_them_start_at_once(place: Place) -> None:
    """Nobody waits for a last call when nobody else can come: it is an hour here."""
    members = [join(place, index, policy=Policy(last_call=3600)) for index in range(4)]
    specs = [member.cluster(PATIENCE) for member in members]
    assert {spec.epoch for spec in specs} == {1}
    assert [str(member.task) for member in specs[0].members] == ["worker/0", "worker/1", "worker/2", "worker/3"]


def test_the_least_of_them_start_after_a_last_call(memory: Place) -> None:
    """With those who came meanwhile, too."""
    members = [join(memory, index, policy=Policy(last_call=30)) for index in (0, 3)]
    waiting = call(members[0].cluster, None)
    memory.memory.advance(20)
    members.append(join(memory, 1, policy=Policy(last_call=30)))
    memory.until(waiting.done)
    assert [str(member.task) for member in returned(waiting).members] == ["worker/0", "worker/1", "worker/3"]


def test_fewer_than_the_least_do_not_start(place: Place) -> None:
    """Who waits is told how many are missing, by the names of the lowest free places."""
    late = call(join(place, 1).cluster, timeout=2.0)
    place.until(late.done)
    error = raised(late)
    assert isinstance(error, GateTimeoutError)
    assert error.missing == {"worker/0": "never registered"}
    assert "1 of 2 tasks are there" in str(error)


def test_fixed_roles_are_awaited_in_full(place: Place) -> None:
    """Only the elastic role may have fewer than its most."""
    replicas = {"ps": 2, "worker": (1, 3)}
    members = [place.join(role, 0, replicas=replicas, policy=QUICK) for role in ("ps", "worker")]
    late = call(members[0].cluster, timeout=2.0)
    place.until(late.done)
    assert getattr(raised(late), "missing", None) == {"ps/1": "never registered"}
    members.append(place.join("ps", 1, replicas=replicas, policy=QUICK))
    waiting = call(members[0].cluster, PATIENCE)
    place.until(waiting.done)
    assert returned(waiting).as_dict() == {"ps": ["ps-0:2222", "ps-1:2222"], "worker": ["worker-0:2222"]}


def test_everybody_must_mean_the_same_bounds(place: Place) -> None:
    """As with fixed replicas."""
    join(place, 0)
    with pytest.raises(JobMismatchError, match="replicas"):
        join(place, 1, replicas={"worker": (2, 5)})


# -- who comes and goes later


def test_who_joins_later_makes_a_new_epoch(place: Place) -> None:
    """For those who were there, too, and in order."""
    members = started(place, 2)
    for count in (3, 4):
        changed = call(next, members[0].changes(PATIENCE))
        members.append(join(place))
        place.until(changed.done)
        assert (returned(changed).epoch, len(returned(changed).members)) == (count - 1, count)
        settled(place, members)


def test_who_leaves_makes_a_new_epoch(place: Place) -> None:
    """Without it, and without its place: the others keep their indices."""
    members = started(place, 3)
    place.lose(members[1])
    assert settled(place, [members[0], members[2]]).epoch == 2


def test_several_changes_make_one_epoch(memory: Place) -> None:
    """They are awaited for as long as they follow one another within the settling time."""
    policy = Policy(last_call=30, settling=3)
    members = [join(memory, index, policy=policy) for index in range(2)]
    settled(memory, members)
    members.append(join(memory, 2, policy=policy))
    memory.memory.advance(2)
    memory.lose(members[1])
    memory.memory.advance(2)
    assert settled(memory, [members[0], members[2]]).epoch == 2


def test_who_comes_back_in_time_costs_no_settling(memory: Place) -> None:
    """The epoch is sealed at once when those are there who were there before."""
    policy = Policy(last_call=3600, settling=3600, loss_grace=3600)
    members = [join(memory, index, policy=policy) for index in range(4)]
    members[0].cluster(PATIENCE)
    members[2] = rejoin(memory, members[2])
    assert members[2].cluster(PATIENCE).epoch == 2


def test_too_few_may_come_back_within_their_grace(place: Place) -> None:
    """Nothing is sealed meanwhile, and another place does as well."""
    members = started(place, 2, policy=Policy(last_call=0.3, settling=0.3, loss_grace=3600))
    place.lose(members[1])
    place.until(lambda: members[0]._view.gone.lost)
    assert members[0].cluster(0).epoch == 1
    members[1] = join(place, 3, policy=Policy(last_call=0.3, settling=0.3, loss_grace=3600))
    assert settled(place, members).epoch == 2


def test_too_few_for_too_long_fail_the_job(place: Place) -> None:
    """By the name of the one that stayed away, and with the number that is needed."""
    members = started(place, 2)
    place.lose(members[1])
    place.until(place.over)
    with pytest.raises(JobFailedError, match=r"worker/1 .* did not come back .* fewer than 2 of its role are left"):
        next(members[0].changes(PATIENCE))


def test_one_above_the_least_may_stay_away_for_ever(memory: Place) -> None:
    """Its grace is over long since, and the job runs."""
    members = started(memory, 3)
    memory.lose(members[2])
    settled(memory, members[:2])
    memory.memory.advance(10)
    memory.until(lambda: not members[0]._view.gone.lost)
    assert not memory.over()


# -- barriers


def test_a_barrier_counts_those_of_its_epoch(place: Place) -> None:
    """A generation that has begun goes on without who joined since; the next one counts all."""
    members = started(place, 2)
    assert [barrier.parties for barrier in barriers(members)] == [2, 2]
    waiting = arrive(place, members[0].barrier("b"))
    members.append(join(place, 2))
    settled(place, members)
    newcomer = call(members[2].barrier("b").wait, PATIENCE)
    assert members[1].barrier("b").wait(PATIENCE) == 1
    assert returned(waiting[0]) == 0
    # It has a step to do before the next generation, and so is told that this one was over without it.
    assert returned(newcomer) == -1
    assert meet(place, members) == [0, 1, 2]
    assert [barrier.generation for barrier in barriers(members[:1])] == [2]


def test_a_generation_whose_party_is_left_out_is_broken(place: Place) -> None:
    """For all who wait, by the name of who went; the next one, after a reset, counts those who are left."""
    members = started(place, 3)
    waiting = arrive(place, *barriers(members)[:2])
    place.lose(members[2])
    place.until(lambda: all(future.done() for future in waiting))
    for future in waiting:
        error = raised(future)
        assert isinstance(error, BarrierBrokenError)
        assert (error.by, error.reason) == ("worker/2", "out")
        assert "the cluster has gone on without its party worker/2" in str(error)
    members[0].barrier("b").reset()
    place.until(lambda: not members[1].barrier("b").broken)
    assert meet(place, members[:2]) == [0, 1]


def test_who_arrived_and_was_left_out_still_counts(place: Place) -> None:
    """A release means that all have arrived, not that all are alive."""
    members = started(place, 3)
    waiting = arrive(place, *barriers(members)[:2])
    place.lose(members[1])
    place.until(lambda: waiting[1].done())
    settled(place, [members[0], members[2]])
    assert members[2].barrier("b").wait(PATIENCE) == 2
    assert returned(waiting[0]) == 0


def test_a_newcomer_whose_deadline_passes_breaks_nothing(place: Place) -> None:
    """For nobody waits for it."""
    members = started(place, 2)
    waiting = arrive(place, members[0].barrier("b"))
    members.append(join(place, 2))
    settled(place, members)
    late = call(members[2].barrier("b").wait, 0.5)
    place.until(late.done)
    error = raised(late)
    assert isinstance(error, BarrierTimeoutError)
    assert "began in epoch 1 and counts 2 others" in str(error)
    assert not members[0].barrier("b").broken
    assert members[1].barrier("b").wait(PATIENCE) == 1
    assert returned(waiting[0]) == 0


def test_a_barrier_before_the_gate_waits_for_the_first_epoch(place: Place) -> None:
    """It cannot know earlier whom to count."""
    members = [join(place, 0)]
    waiting = call(members[0].barrier("b").wait, PATIENCE)
    assert members[0].barrier("b").parties == 0
    members.append(join(place, 1))
    settled(place, members)
    assert members[1].barrier("b").wait(PATIENCE) in (0, 1)
    assert returned(waiting) in (0, 1)


def test_a_barrier_of_fixed_roles_is_as_ever(place: Place) -> None:
    """Beside an elastic role, too; and the two kinds are different barriers."""
    replicas = {"ps": 2, "worker": (1, 2)}
    ps = [place.join("ps", index, replicas=replicas, policy=QUICK) for index in range(2)]
    worker = place.join("worker", 0, replicas=replicas, policy=QUICK)
    waiting = arrive(place, ps[0].barrier("ps", roles=["ps"]))
    assert ps[1].barrier("ps", roles=["ps"]).wait(PATIENCE) == 1
    assert returned(waiting[0]) == 0
    with pytest.raises(
        BarrierMismatchError, match=r"already means the roles ps \(2 tasks\), .* the roles ps, worker: use"
    ):
        worker.barrier("ps")


# -- a rendezvous


def test_a_rendezvous_is_one_epoch_that_all_its_members_have_taken_up(place: Place) -> None:
    """Nobody gets it before the last one has asked for it, and all get the same."""
    members = [join(place, index) for index in range(2)]
    first = call(members[0].rendezvous, PATIENCE)
    settled(place, members)
    second = call(members[1].rendezvous, PATIENCE)
    place.until(lambda: first.done() and second.done())
    assert returned(first) == returned(second)
    assert returned(first).epoch == 1
    # The next one is a later epoch.
    later = [call(member.rendezvous, PATIENCE) for member in members]
    members.append(join(place, 2))
    later.append(call(members[2].rendezvous, PATIENCE))
    place.until(lambda: all(future.done() for future in later))
    assert {returned(future).epoch for future in later} == {2}


@pytest.mark.parametrize("change", ["join", "leave", "replace"])
def test_a_rendezvous_goes_on_to_the_next_epoch(place: Place, change: str) -> None:
    """When members come, go, or come back, while it is not complete."""
    members = started(place, 3)
    waiting = [call(member.rendezvous, PATIENCE) for member in members[:2]]
    place.until(lambda: members[0]._view.barrier("rendezvous.1").record.parties)
    if change == "join":
        members.append(join(place, 3))
    elif change == "leave":
        place.lose(members.pop())
    else:
        members[2] = rejoin(place, members[2])
    settled(place, members)
    waiting += [call(member.rendezvous, PATIENCE) for member in members[2:]]
    place.until(lambda: all(future.done() for future in waiting))
    assert {returned(future).epoch for future in waiting} == {2}


def test_a_rendezvous_with_one_that_has_finished_is_none(place: Place) -> None:
    """It will not come, and the work is ending."""
    members = started(place, 2)
    waiting = call(members[0].rendezvous, PATIENCE)
    members[1].finish()
    place.until(waiting.done)
    error = raised(waiting)
    assert isinstance(error, BarrierBrokenError)
    assert (error.by, error.reason) == ("worker/1", "finished")


def test_a_rendezvous_has_a_deadline(place: Place) -> None:
    """And says who has not come."""
    members = started(place, 2)
    late = call(members[0].rendezvous, 0.5)
    place.until(late.done)
    error = raised(late)
    assert isinstance(error, BarrierTimeoutError)
    assert error.missing == {"worker/1": "registered, not arrived"}


def test_a_job_with_fixed_roles_has_no_rendezvous(place: Place) -> None:
    """It has the gate."""
    with pytest.raises(InvalidArgumentError, match="no elastic role"):
        place.join("worker", 0).rendezvous()


# -- the end


def test_the_job_succeeds_when_all_of_the_newest_epoch_have_finished(place: Place) -> None:
    """However many they are then."""
    members = started(place, 3)
    place.lose(members[0])
    settled(place, members[1:])
    members[1].finish()
    assert not place.over()
    members[2].finish()
    assert place.over()
    assert members[1].wait_job(PATIENCE).phase == "succeeded"


def test_the_last_one_that_has_not_finished_may_be_left_out(place: Place) -> None:
    """Then nobody finishes any more, and the leader ends the job."""
    members = started(place, 3)
    members[0].finish()
    members[1].finish()
    place.lose(members[2])
    place.until(place.over)
    assert members[0].wait_job(PATIENCE).phase == "succeeded"


def test_nobody_new_is_let_in_once_one_has_finished(place: Place) -> None:
    """The work is ending, and it would be alone with it; it learns the end as any other."""
    members = started(place, 3)
    members[0].finish()
    place.until(lambda: members[1]._view.gone.finished)
    waiting = call(join(place, 3).cluster, PATIENCE)
    members[1].finish()
    members[2].finish()
    place.until(waiting.done)
    assert isinstance(raised(waiting), JobOverError)
    assert not any(name.endswith("/cluster/0000000002") for name in place.names())


def test_after_that_one_may_still_stand_in_for_another(place: Place) -> None:
    """When without it fewer than the least would be left, of whom some have yet to finish."""
    members = started(place, 2, policy=Policy(last_call=0.3, settling=0.3, loss_grace=3600))
    members[0].finish()
    place.until(lambda: members[1]._view.gone.finished)
    place.lose(members[1])
    members.append(join(place, 2, policy=Policy(last_call=0.3, settling=0.3, loss_grace=3600)))
    settled(place, [members[0], members[2]])
    members[2].finish()
    assert place.over()
    assert members[0].wait_job(PATIENCE).phase == "succeeded"


def test_who_has_not_begun_cannot_finish(place: Place) -> None:
    """It would count among those who have, and not among those who must."""
    member = join(place, 0)
    with pytest.raises(InvalidArgumentError, match=r"worker/0 cannot finish before it has begun"):
        member.finish()
    assert not any(kv.lease == member._me.run_lease for kv in place.kvs() if kv.key.endswith(str(Task("worker", 0))))


def test_who_is_awaited_for_the_end_are_those_of_the_newest_epoch(place: Place) -> None:
    """The message of a deadline names no place that nobody holds."""
    members = started(place, 2)
    members[0].finish()
    place.until(lambda: members[1]._view.gone.finished)
    late = call(members[0].wait_job, 0.5)
    place.until(late.done)
    assert getattr(raised(late), "missing", None) == {"worker/1": "running"}
