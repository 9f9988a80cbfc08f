"""The barrier's promises: all or none, one outcome for all, and every missing party by name."""

from __future__ import annotations

import random

import pytest
from jobs import JOB, PATIENCE, TWO, Place, arrive, barriers, call, raised, rejoin, returned

from psbarrier.errors import (
    BarrierBrokenError,
    BarrierMismatchError,
    BarrierTimeoutError,
    ConcurrentWaitError,
    InvalidArgumentError,
)

THREE = {"worker": 3}


# -- released


def test_nobody_passes_before_all_have_arrived(place: Place) -> None:
    """While one party is missing every other one waits; with the last one all go."""
    parties = barriers(place.start(THREE))
    waiting = arrive(place, *parties[:2])
    assert parties[2].generation == 0
    assert not any(future.done() for future in waiting)
    orders = [parties[2].wait(PATIENCE), *map(returned, waiting)]
    assert sorted(orders) == [0, 1, 2]
    assert orders[0] == 2
    place.until(lambda: {barrier.generation for barrier in parties} == {1}, step=0)


def test_a_thousand_generations_leave_nothing_behind(place: Place) -> None:
    """Each generation is released once, in step for all; afterwards etcd holds no more keys than after two."""
    parties = barriers(place.start(THREE))
    passed = [0] * 3
    keys: dict[int, int] = {}

    def go(position: int) -> None:
        for generation in range(1000):
            order = parties[position].wait(PATIENCE)
            passed[position] += 1
            # Nobody can be more than one generation away: the next one is not released without us.
            assert all(abs(count - generation - 1) <= 1 for count in passed)
            if order == 0 and generation in (2, 999):
                keys[generation] = len(place.kvs())

    for future in [call(go, position) for position in range(3)]:
        future.result(100)
    assert [barrier.generation for barrier in parties] == [1000] * 3
    assert len(place.kvs()) <= keys[2] + 4  # two generations of arrivals and ticks are kept at most


def test_orders_are_a_permutation_in_every_generation(place: Place) -> None:
    """wait() returns 0 to N-1, each exactly once, so that one party can be picked."""
    parties = barriers(place.start(THREE))
    for _ in range(20):
        assert sorted(returned(future) for future in [call(barrier.wait, PATIENCE) for barrier in parties]) == [0, 1, 2]


def test_barriers_of_two_names_do_not_mix(place: Place) -> None:
    """An arrival at one counts for no other, not even for one whose name begins alike."""
    first, second = place.start(TWO)
    (waiting,) = arrive(place, first.barrier("epoch"))
    assert second.barrier("epoch1").n_waiting == 0
    assert second.barrier("epoch").wait(PATIENCE) == 1
    assert returned(waiting) == 0


def test_a_barrier_of_one_role_does_not_wait_for_another(place: Place) -> None:
    """Workers meet while the ps serves."""
    ps, *workers = place.start(JOB)
    waiting = [call(barrier.wait, PATIENCE) for barrier in barriers(workers, roles=("worker",))]
    assert sorted(map(returned, waiting)) == [0, 1]
    with pytest.raises(InvalidArgumentError, match="ps/0 is no party"):
        ps.barrier("b", roles=("worker",))


def test_a_past_generation_is_not_waited_for(place: Place) -> None:
    """A restarted task that names its generation does not hold up the others, and arrives nowhere."""
    members = place.start(TWO)
    parties = barriers(members)
    for _ in range(2):
        for future in [call(barrier.wait, PATIENCE) for barrier in parties]:
            returned(future)
    again = rejoin(place, members[1]).barrier("b")
    assert again.generation == 2
    assert [again.wait(PATIENCE, generation=past) for past in (0, 1)] == [-1, -1]
    assert again.n_waiting == 0
    with pytest.raises(InvalidArgumentError, match="generation 3"):
        again.wait(PATIENCE, generation=3)
    (waiting,) = arrive(place, parties[0])
    assert again.wait(PATIENCE, generation=2) == 1
    assert returned(waiting) == 0


# -- broken


def test_a_timeout_breaks_the_barrier_for_all_and_names_the_missing(place: Place) -> None:
    """BarrierTimeoutError for whose deadline it was, BarrierBrokenError for the rest, the same facts in both."""
    parties = barriers(place.start(THREE))
    (patient,) = arrive(place, parties[1], timeout=None)
    (hurried,) = arrive(place, parties[0], timeout=1.0)
    place.until(hurried.done)
    mine, theirs = raised(hurried), raised(patient)
    assert type(mine) is BarrierTimeoutError
    assert isinstance(mine, TimeoutError)
    assert type(theirs) is BarrierBrokenError
    for error in (mine, theirs):
        assert isinstance(error, BarrierBrokenError)
        assert (error.barrier, error.generation, error.by, error.reason) == ("b", 0, "worker/0", "timeout")
        assert error.missing == {"worker/2": "registered, not arrived"}
        assert "worker/2" in str(error)
    place.until(lambda: parties[2].broken, step=0)
    with pytest.raises(BarrierBrokenError, match="worker/2"):
        parties[2].wait(PATIENCE)


def test_released_or_broken_is_the_same_for_all(place: Place) -> None:
    """However close a deadline is to the last arrival, no generation ends well for one party and badly for another."""
    parties = barriers(place.start(THREE))
    chance = random.Random(1)
    for _ in range(25):
        timeouts = [PATIENCE, PATIENCE, chance.uniform(0.001, 0.02)]
        waiting = [call(barrier.wait, timeout) for barrier, timeout in zip(parties, timeouts, strict=True)]
        place.until(lambda: all(future.done() for future in waiting), step=0.005)  # noqa: B023
        outcomes = {future.exception() is None for future in waiting}
        assert len(outcomes) == 1
        parties[0].reset()
        place.until(lambda: len({repr(barrier) for barrier in parties}) == 1, step=0)


def test_abort_breaks_the_barrier_for_all(place: Place) -> None:
    """As with threading.Barrier; who aborted is named."""
    parties = barriers(place.start(TWO))
    (waiting,) = arrive(place, parties[0])
    parties[1].abort()
    error = raised(waiting)
    assert isinstance(error, BarrierBrokenError)
    assert (error.by, error.reason) == ("worker/1", "abort")
    assert parties[1].broken
    parties[1].abort()
    place.until(lambda: parties[0].broken, step=0)


def test_reset_opens_the_same_generation_again(place: Place) -> None:
    """All may try again after one of them has reset; a second reset of the same break does nothing."""
    parties = barriers(place.start(TWO))
    parties[0].abort()
    place.until(lambda: parties[1].broken, step=0)
    parties[0].reset()
    (waiting,) = arrive(place, parties[0])
    parties[1].reset()
    assert parties[0].n_waiting == 1
    assert parties[1].wait(PATIENCE) == 1
    assert returned(waiting) == 0
    assert {barrier.generation for barrier in parties} == {1}


def test_a_late_second_reset_breaks_nobody(memory: Place) -> None:
    """Even a reset by one who has not heard of the first one yet changes nothing."""
    lagging = memory.memory_client()
    members = [memory.join("worker", 0), memory.join("worker", 1, store=lagging)]
    parties = barriers(members)
    parties[0].abort()
    memory.until(lambda: parties[1].broken, step=0)
    with lagging.held_watches():
        parties[0].reset()
        (waiting,) = arrive(memory, parties[0])
        parties[1].reset()
        assert not waiting.done()
        assert parties[1].wait(PATIENCE) == 1
    assert returned(waiting) == 0


def test_who_was_told_of_a_reset_may_wait_at_once(memory: Place) -> None:
    """A break that is over breaks no later wait, even if the watch has not delivered that yet."""
    lagging = memory.memory_client()
    members = [memory.join("worker", 0), memory.join("worker", 1, store=lagging)]
    parties = barriers(members)
    parties[0].abort()
    memory.until(lambda: parties[1].broken, step=0)
    with lagging.held_watches():
        parties[0].reset()
        (waiting,) = arrive(memory, parties[0])
        assert parties[1].wait(PATIENCE) == 1
    assert returned(waiting) == 0


# -- use and misuse


def test_two_meanings_of_one_name_are_refused_with_both(place: Place) -> None:
    """Two different sets of roles under one name would count each other's parties."""
    ps, worker, _ = place.start(JOB)
    ps.barrier("b")
    with pytest.raises(BarrierMismatchError) as mismatch:
        worker.barrier("b", roles=["worker"])
    assert (mismatch.value.ours, mismatch.value.theirs) == (("worker",), ("ps", "worker"))
    assert "ps, worker" in str(mismatch.value)
    worker.barrier("c", roles=("worker",))
    with pytest.raises(BarrierMismatchError):
        worker.barrier("c")
    with pytest.raises(InvalidArgumentError, match="on_loss"):
        worker.barrier("c", roles=("worker",), on_loss="break")


def test_the_same_barrier_is_the_same_object(place: Place) -> None:
    """So the rule of one thread at a time holds for the task, however often it asks."""
    first, _ = place.start(TWO)
    assert first.barrier("b") is first.barrier("b", roles=["worker", "worker"])


def test_two_threads_of_one_task_are_refused(place: Place) -> None:
    """One task arrives once; the thread that came first is not disturbed."""
    parties = barriers(place.start(TWO))
    (waiting,) = arrive(place, parties[0])
    with pytest.raises(ConcurrentWaitError, match="worker/0") as refused:
        parties[0].wait(1.0)
    assert isinstance(refused.value, RuntimeError)
    parties[1].wait(PATIENCE)
    assert returned(waiting) == 0


def test_a_barrier_says_how_it_stands(place: Place) -> None:
    """n_waiting, missing() and repr() are for whoever debugs at night."""
    parties = barriers(place.start(TWO))
    assert (parties[0].parties, parties[0].n_waiting, parties[0].broken, parties[0].generation) == (2, 0, False, 0)
    assert repr(parties[0]) == "<Barrier 'b' gen 0: open, 2 parties>"
    arrive(place, parties[0])
    assert parties[1].n_waiting == 1
    assert parties[1].missing() == {"worker/1": "registered, not arrived"}
    parties[1].abort()
    assert repr(parties[1]) == "<Barrier 'b' gen 0: broken by worker/1: abort, 2 parties>"
