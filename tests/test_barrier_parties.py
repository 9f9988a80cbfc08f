"""The barrier, when a party goes away, comes back, or has finished."""

from __future__ import annotations

import pytest
from jobs import PATIENCE, Counting, Place, arrive, barriers, call, raised, rejoin, returned

from psbarrier.errors import (
    BarrierBrokenError,
    JobFailedError,
    JobOverError,
    SlotLostError,
)

THREE = {"worker": 3}


# -- parties that go away


def test_a_lost_party_breaks_the_barrier_where_that_was_asked_for(place: Place) -> None:
    """on_loss="break": nobody waits for a process that has vanished."""
    members = place.start(THREE)
    parties = barriers(members, on_loss="break")
    waiting = arrive(place, *parties[:2])
    place.lose(members[2])
    place.until(lambda: all(future.done() for future in waiting))
    for future in waiting:
        error = raised(future)
        assert isinstance(error, BarrierBrokenError)
        assert (error.by, error.reason) == ("worker/2", "lost")
        assert error.missing["worker/2"].startswith("lost at ")


def test_a_party_that_arrived_and_then_vanished_still_counts(place: Place) -> None:
    """A release means that all have arrived, not that all are alive."""
    members = place.start(THREE)
    parties = barriers(members, on_loss="break")
    waiting = arrive(place, *parties[:2])
    place.lose(members[1])
    place.until(lambda: parties[2]._view.gone.lost and waiting[1].done())
    assert parties[2].wait(PATIENCE) == 2
    assert returned(waiting[0]) == 0
    assert isinstance(raised(waiting[1]), SlotLostError)


def test_an_arrival_of_a_party_that_vanished_is_asked_for_once(memory: Place) -> None:
    """Whoever waits finds out that the lost party had arrived, and then costs etcd nothing more."""
    store = Counting(memory.client())
    members = [memory.join("worker", 0, replicas=THREE, store=store)]
    members += [memory.join("worker", index, replicas=THREE) for index in (1, 2)]
    for member in members:
        member.cluster(PATIENCE)  # who goes before the first spec is absent, and not lost
    parties = barriers(members, on_loss="break")
    waiting = arrive(memory, *parties[:2], timeout=None)
    memory.lose(members[1])
    memory.until(lambda: parties[2]._view.gone.lost)
    before = store.requests
    memory.until(lambda: store.clock.now() > 1_050, step=5.0)
    assert store.requests - before <= 30  # the reports of one who waits long, and the leader's signs of life
    assert parties[2].wait(PATIENCE) == 2
    memory.until(waiting[0].done)  # time must pass for whoever was outrun by the long steps, and tries again
    assert returned(waiting[0]) == 0


def test_a_lost_party_is_awaited_by_default(place: Place) -> None:
    """on_loss="wait": the barrier is released when the task is back, and not before."""
    members = place.start(THREE)
    parties = barriers(members)
    waiting = arrive(place, *parties[:2])
    place.lose(members[2])
    place.until(lambda: parties[0].missing().get("worker/2", "").startswith("lost at "))
    assert not any(future.done() for future in waiting)
    assert place.join("worker", 2, replicas=THREE).barrier("b").wait(PATIENCE) == 2
    assert sorted(map(returned, waiting)) == [0, 1]


def test_a_party_that_crashes_after_arriving_is_not_counted_twice(place: Place) -> None:
    """Its old arrival counts no longer when it is back; the others arrive again by themselves."""
    members = place.start(THREE)
    parties = barriers(members)
    waiting = arrive(place, *parties[:2])
    back = rejoin(place, members[1]).barrier("b")
    place.until(waiting[1].done)
    assert isinstance(raised(waiting[1]), SlotLostError)
    again = call(back.wait, PATIENCE)
    second_round = "/arrivals/b/0000000000.0000000001."
    place.until(lambda: sum(second_round in name for name in place.names()) == 2, step=0)
    assert not again.done()
    assert not waiting[0].done()
    assert parties[2].wait(PATIENCE) == 2
    assert sorted([returned(waiting[0]), returned(again)]) == [0, 1]


def test_a_finished_party_breaks_the_barrier_by_name(place: Place) -> None:
    """It will never come, so nobody waits for the deadline."""
    members = place.start({"chief": 1, "worker": 2})
    parties = barriers(members)
    waiting = arrive(place, *parties[:2])
    members[2].finish()
    place.until(lambda: all(future.done() for future in waiting))
    for future in waiting:
        error = raised(future)
        assert isinstance(error, BarrierBrokenError)
        assert (error.by, error.reason) == ("worker/1", "finished")
        assert error.missing == {"worker/1": "finished"}


@pytest.mark.parametrize("end", ["fail", "finish"])
def test_the_end_of_the_job_ends_every_wait(place: Place, end: str) -> None:
    """Nobody waits for a barrier of a job that is over; a failure says by whom, why, and with which exit code."""
    chief, first, _ = place.start({"chief": 1, "worker": 2})
    (waiting,) = arrive(place, first.barrier("b", roles="worker"))
    if end == "fail":
        chief.fail("bad data", 5)
        error = raised(waiting)
        assert isinstance(error, JobFailedError)
        assert (error.by, error.reason, error.exit_code) == ("chief/0", "bad data", 5)
    else:
        chief.finish()
        assert type(raised(waiting)) is JobOverError
