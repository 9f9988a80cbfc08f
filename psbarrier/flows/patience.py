"""Patience: when a wait that takes long says so."""

from __future__ import annotations

from collections.abc import Callable

FIRST = 5.0
EVERY = 10.0


class Patience:
    """The schedule of one wait: a first word after 5 s, another every 10 s, by default."""

    def __init__(
        self, clock: Callable[[], float], until: float | None, *, first: float = FIRST, every: float = EVERY
    ) -> None:
        self._clock, self._until, self._every = clock, until, every
        self._began = clock()
        self._report = self._began + first

    def due(self) -> bool:
        """Whether it is time to say something; if so, the next time is set."""
        if self._clock() < self._report:
            return False
        self._report = max(self._report + self._every, self._clock())
        return True

    def next(self) -> float:
        """When to look up from waiting: at the next report, or at the deadline."""
        return self._report if self._until is None else min(self._report, self._until)

    def within(self, seconds: float) -> float:
        """When so many seconds are over, or at the deadline."""
        end = self._clock() + seconds
        return end if self._until is None else min(end, self._until)

    def over(self) -> bool:
        return self._until is not None and self._clock() >= self._until

    def waited(self) -> float:
        return self._clock() - self._began

    def left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - self._clock())
