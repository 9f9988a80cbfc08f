"""The keep-alives of a MemoryStore: beats that come with the clock's advance."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from psbarrier.store.manual_clock import ManualClock, Timer

logger = logging.getLogger("psbarrier.store.memory")


class MemoryKeeping:
    """A lease that a MemoryStore keeps alive.

    `renew` asks the server: the seconds bought, 0 for a lease it does not know, or None when no answer comes.
    """

    def __init__(
        self,
        clock: ManualClock,
        interval: float,
        renew: Callable[[], int | None],
        on_beat: Callable[[float, int], None],
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._renew = renew
        self._on_beat = on_beat
        self._lock = threading.Lock()
        self._timer: Timer | None = None
        self.begun = False
        self._stopped = False

    def __repr__(self) -> str:
        return f"<MemoryKeeping every {self._interval:g} s{', stopped' if self._stopped else ''}>"

    @property
    def stopped(self) -> bool:
        """No further keep-alive is sent."""
        return self._stopped

    def stop(self) -> None:
        """No further keep-alive is sent; the lease itself goes on until its TTL is over."""
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()

    def begin(self, first: float) -> None:
        """The first beat: at `first`, or, if that has passed, before this returns."""
        if first <= self._clock.now():
            self.beat()
            return
        with self._lock:
            if not self._stopped:
                self._timer = self._clock.call_at(first, self.beat)

    def beat(self) -> None:
        """Send one keep-alive, plan the next, and pass on the answer if there is one."""
        with self._lock:
            if self._stopped:
                return
            self.begun = True
            sent = self._clock.now()
            ttl = self._renew()
            self._plan(sent, ttl)
        if ttl is not None:
            self._tell(sent, ttl)

    def _plan(self, sent: float, ttl: int | None) -> None:
        """Under the lock, with the answer: two beats at once must not both report that the lease is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if ttl is not None and ttl <= 0:
            self._stopped = True
        else:
            self._timer = self._clock.call_at(sent + self._interval, self.beat)

    def _tell(self, sent: float, ttl: int) -> None:
        try:
            self._on_beat(sent, ttl)
        except Exception:
            logger.exception("on_beat of a kept lease raised; the beats go on")
