"""A clock that stands still until it is told to move: what deadlines, beats and leases run on in tests."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from psbarrier.errors import InvalidArgumentError

START = 1_000.0
"""What `now()` says at first: positive, so that a forgotten 0 shows."""

EPOCH = 1_700_000_000.0
"""`wall()` is this plus `now()`."""


class Timer:
    """Something that will happen at a moment of a ManualClock, unless `cancel` comes first."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not start the callback any more."""
        self._callback = None

    def fire(self) -> None:
        """Run the callback unless it is cancelled."""
        callback = self._callback
        if callback is not None:
            callback()


class ManualClock:
    """A Clock that moves by `advance` only; no real time passes in it.

    Two locks are involved in a wait: the caller's condition, held on entry, and the clock's own mutex. The order is
    condition, then mutex. `advance` sets the time and chooses whom to wake under the mutex, lets go of it, and then
    takes each condition to notify it. So no advance is missed: a waiter that registered after the time had moved sees
    that at registration and does not sleep; one that registered before still holds its condition, and cannot be
    notified until it sleeps and so gives it up.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._slept = threading.Condition(self._mutex)
        self._moving = threading.RLock()
        self._now = START
        self._timers: list[tuple[float, int, int, Timer]] = []
        self._waiters: dict[int, tuple[threading.Condition, float | None]] = {}
        self._serial = itertools.count()

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:g} s, {len(self._waiters)} waiting>"

    def now(self) -> float:
        """Seconds; starts at 1000."""
        return self._now

    def wall(self) -> float:
        """Seconds since 1970: a fixed moment plus `now()`."""
        return EPOCH + self._now

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        """Wait on the held `condition` until it is notified, or until an advance reaches `until`; may wake early."""
        with self._mutex:
            if until is not None and self._now >= until:
                return
            ticket = next(self._serial)
            self._waiters[ticket] = condition, until
            self._slept.notify_all()
        try:
            condition.wait()
        finally:
            with self._mutex:
                self._waiters.pop(ticket, None)

    def await_waiters(
        self, count: int = 1, *, condition: threading.Condition | None = None, timeout: float = 30.0
    ) -> None:
        """Block until `count` threads wait on this clock, so that a test knows that its next advance reaches them.

        With `condition`, only those count that wait on that one. The timeout is in real seconds, and only there to end
        a test that would hang: raises TimeoutError.
        """

        def waiting() -> int:
            return sum(condition in (None, its) for its, _ in self._waiters.values())

        with self._slept:
            if not self._slept.wait_for(lambda: waiting() >= count, timeout):
                raise TimeoutError(f"{waiting()} of {count} threads wait on the clock after {timeout:g} s")

    def call_at(self, when: float, callback: Callable[[], None], *, rank: int = 0) -> Timer:
        """Have an advance that reaches `when` call `callback`, on its thread; of one moment, lower ranks come first.

        The callback sees `now()` stand at `when`, must not block and must not raise.
        """
        timer = Timer(callback)
        with self._mutex:
            heapq.heappush(self._timers, (when, rank, next(self._serial), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move through all that is due in the next `seconds`, in the order of time, then wake whose time has come.

        The caller must not hold a lock that a callback or a waiter's condition needs.
        """
        if seconds < 0:
            raise InvalidArgumentError(f"time does not run backwards: advance({seconds})")
        with self._moving:
            goal = self._now + seconds
            while (timer := self._step(goal)) is not None:
                timer.fire()
            for condition in self._due():
                with condition:
                    condition.notify_all()

    def _step(self, goal: float) -> Timer | None:
        """Move to the next timer up to `goal` and return it, or to `goal` itself and return None."""
        with self._mutex:
            if self._timers and self._timers[0][0] <= goal:
                when, _, _, timer = heapq.heappop(self._timers)
                self._now = max(self._now, when)
                return timer
            self._now = max(self._now, goal)
            return None

    def _due(self) -> list[threading.Condition]:
        """Take out whoever's time has come: `await_waiters` must not count a thread that is on its way out."""
        with self._mutex:
            due = [ticket for ticket, (_, until) in self._waiters.items() if until is not None and self._now >= until]
            return [self._waiters.pop(ticket)[0] for ticket in due]
