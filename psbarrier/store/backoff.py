"""How long to wait before the next attempt."""

from __future__ import annotations

import random

_FIRST = 0.05
_LONGEST = 1.0


class Backoff:
    """Every endpoint once without a pause, then pauses that double, up to a second, each shortened at random.

    The randomness keeps the members of a job from coming back to a restarted etcd all in the same millisecond.
    """

    def __init__(self, endpoints: int) -> None:
        self._endpoints = endpoints
        self._failures = 0

    def next(self) -> float:
        """Count one more failure; the seconds to wait now."""
        self._failures += 1
        rounds, rest = divmod(self._failures, self._endpoints)
        if rest:
            return 0.0
        return float(min(_LONGEST, _FIRST * 2 ** min(rounds - 1, 10))) * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It works again."""
        self._failures = 0
