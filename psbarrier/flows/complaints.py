"""Complaints: what goes wrong again and again is told once, and then once a minute."""

from __future__ import annotations

import math
from collections.abc import Callable

from psbarrier.flows.effects import Flow, Trouble

AGAIN = 60.0
"""Seconds after which the same trouble is told once more."""
_REMEMBERED = 100


class Complaints:
    """Tells the operator of trouble that no caller is waiting for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def tell(self, message: str) -> Flow[None]:
        """Tell it, unless it was told less than a minute ago."""
        now = self._clock()
        if now < self._told.get(message, -math.inf) + AGAIN:
            return
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[message] = now
        yield Trouble(message)
