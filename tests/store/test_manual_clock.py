"""The clock that stands still."""

from __future__ import annotations

import threading

import pytest

from psbarrier.errors import InvalidArgumentError
from psbarrier.store.manual_clock import EPOCH, ManualClock
from store.helpers import in_threads


def sleeper(clock: ManualClock, until: float) -> tuple[threading.Thread, list[float]]:
    """A thread that waits until then, and notes when it woke."""
    woke: list[float] = []

    def sleep() -> None:
        condition = threading.Condition()
        with condition:
            while clock.now() < until:
                clock.wait(condition, until)
            woke.append(clock.now())

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    return thread, woke


def joined(thread: threading.Thread) -> bool:
    """Whether the thread ends."""
    thread.join(30)
    return not thread.is_alive()


def test_time_stands_still_until_it_is_moved() -> None:
    """Wall time follows; the start is positive."""
    clock = ManualClock()
    start = clock.now()
    assert start > 0
    assert clock.now() == start
    clock.advance(2.5)
    assert clock.now() == start + 2.5
    assert clock.wall() == EPOCH + start + 2.5
    with pytest.raises(InvalidArgumentError, match="backwards"):
        clock.advance(-1)


def test_a_wait_whose_time_has_come_returns_at_once() -> None:
    """No advance is needed."""
    clock, condition = ManualClock(), threading.Condition()
    with condition:
        clock.wait(condition, clock.now())


def test_an_advance_wakes_whose_time_has_come_and_nobody_else() -> None:
    """The others sleep on, and are still counted."""
    clock = ManualClock()
    early, woke_early = sleeper(clock, clock.now() + 5)
    late, woke_late = sleeper(clock, clock.now() + 50)
    clock.await_waiters(2)
    clock.advance(5)
    assert joined(early)
    assert woke_early == [clock.now()]
    assert repr(clock) == "<ManualClock at 1005 s, 1 waiting>"
    assert woke_late == []
    clock.advance(45)
    assert joined(late)


def test_a_wait_without_end_is_ended_by_a_notification() -> None:
    """As that of any condition."""
    clock, condition, done = ManualClock(), threading.Condition(), threading.Event()

    def wait() -> None:
        with condition:
            clock.wait(condition, None)
        done.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    clock.await_waiters()
    clock.advance(1_000_000)
    assert not done.is_set()
    with condition:
        condition.notify_all()
    assert joined(thread)


def test_no_advance_is_missed() -> None:
    """Threads that sleep second by second, while others advance, all reach the end; a lost one would hang here."""
    clock, steps = ManualClock(), 300
    start = clock.now()
    condition = threading.Condition()

    def work(number: int) -> None:
        if number == 0:
            for _ in range(steps):
                clock.advance(1)
            return
        for step in range(1, steps + 1):
            with condition:
                while clock.now() < start + step:
                    clock.wait(condition, start + step)

    in_threads(5, work)
    assert clock.now() == start + steps


def test_timers_fire_in_the_order_of_time_then_rank() -> None:
    """Each sees the clock at its moment; a cancelled one stays silent; one set on the way fires on the way."""
    clock, story = ManualClock(), []
    start = clock.now()

    def tell(name: str) -> None:
        story.append((clock.now() - start, name))

    def chain() -> None:
        tell("chain")
        clock.call_at(clock.now() + 1, lambda: tell("chained"))

    clock.call_at(start + 3, lambda: tell("second"), rank=1)
    clock.call_at(start + 3, lambda: tell("first"), rank=0)
    clock.call_at(start + 1, chain)
    clock.call_at(start + 2, lambda: tell("never")).cancel()
    clock.call_at(start + 9, lambda: tell("too late"))
    clock.advance(3)
    assert story == [(1, "chain"), (2, "chained"), (3, "first"), (3, "second")]


def test_awaiting_waiters_that_never_come_ends() -> None:
    """With a TimeoutError that says how many there are."""
    with pytest.raises(TimeoutError, match="0 of 1"):
        ManualClock().await_waiters(timeout=0.01)
