"""Hold: the leases of one session, and how sure it may be of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from psbarrier.errors import ClosedError, StoreError
from psbarrier.protocol.lease import LeaseClock
from psbarrier.store.base import Keeping, Store

logger = logging.getLogger("psbarrier")


class Hold:
    """The member's lease, which the session lives by, and the run's, while it leads.

    `condition` guards it all. `notify` is called with it held: when the lease is certain again, or dead. `died` is
    called when etcd says that the member's lease is dead, `run_died` when the run's is.
    """

    def __init__(
        self,
        store: Store,
        condition: threading.Condition,
        notify: Callable[[], None],
        died: Callable[[], None],
        run_died: Callable[[], None],
    ) -> None:
        self._store, self._condition, self._notify = store, condition, notify
        self._died, self._run_died = died, run_died
        self._keepings: dict[int, Keeping] = {}
        self._run_keeping: Keeping | None = None
        self._clock: LeaseClock | None = None
        self._founded = (0, 0.0)  # the run's lease, if it was made here, and when
        self._closed = False
        self.lease = 0
        self._dead = 0

    def certain(self) -> bool:
        """Whether the lease surely lives now."""
        with self._condition:
            return self._clock is not None and self._clock.certain(self._store.clock.now())

    @property
    def deadline(self) -> float | None:
        """When the lease stops being certain, if no keep-alive is confirmed before; None before there is one."""
        return None if self._clock is None else self._clock.deadline

    def dead(self, lease: int) -> bool:
        """Whether etcd has said that this lease is gone."""
        return self._dead == lease

    def take(self, lease: int, ttl: int, sent: float) -> None:
        """Live by `lease` from now on; etcd confirmed it for `ttl` seconds from `sent` on."""
        with self._condition:
            self._clock = LeaseClock(ttl, sent)
            self.lease = lease  # before the first answer, which may come before `keep` returns
        # A grant is as good as a beat. One more would open a stream just when a thousand members start together.
        interval = ttl / 3
        keeping = self._store.keep(
            lease, interval=interval, on_beat=lambda at, left: self._beaten(lease, at, left), first=sent + interval
        )
        with self._condition:
            closed = self._closed
            if not closed:
                self._keepings[lease] = keeping
        if closed:
            keeping.stop()

    def _beaten(self, lease: int, sent: float, ttl: int) -> None:
        with self._condition:
            if lease != self.lease or self._clock is None:
                return
            if ttl > 0:
                certain = self._clock.certain(self._store.clock.now())
                self._clock.confirm(sent)
                if not certain:
                    self._notify()
                return
            self._dead = lease
            self._notify()
        self._died()

    def found(self, lease: int, sent: float) -> None:
        """A lease for the run was asked for at `sent`, and made."""
        self._founded = (lease, sent)

    def keep_run(self, lease: int, interval: float) -> None:
        """Keep the run's lease every `interval` seconds; with 0 for the lease, no longer.

        One that was made here has its first beat after an interval; nobody knows when another one's last was, so that beats now.
        """
        keeping = None
        if lease:
            made, sent = self._founded
            first = sent + interval if lease == made else 0.0
            keeping = self._store.keep(lease, interval=interval, on_beat=self._run_beaten, first=first)
        with self._condition:
            if not self._closed:
                self._run_keeping, keeping = keeping, self._run_keeping
        if keeping is not None:  # the one before, or, if we were closed meanwhile, the one that comes too late
            keeping.stop()

    def _run_beaten(self, _sent: float, ttl: int) -> None:
        if ttl <= 0:
            self._run_died()

    def stop(self, lease: int) -> None:
        """Stop keeping a lease."""
        keeping = self._keepings.pop(lease, None)
        if keeping is not None:
            keeping.stop()

    def revoke(self, lease: int, until: float) -> None:
        """End a lease, if etcd can be told so by `until`."""
        try:
            self._store.revoke(lease, until=until)
        except (StoreError, ClosedError) as error:
            logger.debug("lease %x is left to run out: %s", lease, error)

    def drop(self, lease: int, until: float) -> None:
        """Stop keeping a lease, and end it."""
        self.stop(lease)
        if lease == self.lease:
            self.lease = 0  # so that closing does not try it a second time
        self.revoke(lease, until)

    def let_go(self) -> list[Keeping]:
        """Nothing is to be kept any more: what to stop, once the condition, which is held, is free."""
        self._closed = True
        keepings = list(self._keepings.values())
        self._keepings.clear()
        if self._run_keeping is not None:
            keepings.append(self._run_keeping)
            self._run_keeping = None
        return keepings
