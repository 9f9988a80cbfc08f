"""The lease clock: how sure a process may be that its lease still lives.

Time counts from when a keep-alive was *sent*: etcd cannot have renewed the lease earlier than that, so the clock runs
out no later than the lease. It never says that the lease is gone; only etcd can, for an outage of etcd itself extends
every lease.
"""

from __future__ import annotations


class LeaseClock:
    """Not thread-safe: its owner holds a lock. Times are seconds on the store's clock."""

    def __init__(self, ttl: float, sent: float) -> None:
        self.ttl = ttl
        self._confirmed = sent

    @property
    def deadline(self) -> float:
        """Until when the lease is certain to live."""
        return self._confirmed + self.ttl

    def confirm(self, sent: float) -> None:
        """A keep-alive that was sent at `sent` has been answered; a late answer to an older one changes nothing."""
        self._confirmed = max(self._confirmed, sent)

    def certain(self, now: float) -> bool:
        return now < self.deadline
