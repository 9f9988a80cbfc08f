"""The clock of real life."""

from __future__ import annotations

import threading
import time

# A wait is measured on a clock that stands still while the machine sleeps; in pieces of this many seconds the
# caller's loop looks at `now()` again, and a sleep is noticed. (It is also far below threading.TIMEOUT_MAX.)
_LONGEST_WAIT = 60.0

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """psbarrier.store.base.Clock over the operating system: CLOCK_BOOTTIME, or time.monotonic() where there is none."""

    def now(self) -> float:
        """Seconds on a clock that never jumps; on Linux it counts while the machine sleeps."""
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        """Wait on the held `condition` until notified or `until`; wakes after a minute at the latest."""
        remaining = _LONGEST_WAIT if until is None else min(until - self.now(), _LONGEST_WAIT)
        if remaining > 0:
            condition.wait(remaining)

    def __repr__(self) -> str:
        return "<SystemClock>"
