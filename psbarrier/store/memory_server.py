"""The etcd inside a MemoryStore: one keyspace, the leases' deadlines, and every client's feed, behind one lock."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from psbarrier.errors import LeaseNotFoundError
from psbarrier.store.base import KV, Event, Txn, TxnReply
from psbarrier.store.manual_clock import ManualClock, Timer
from psbarrier.store.memory_kv import Keyspace
from psbarrier.store.memory_watch import Feed

# A keep-alive that is due at the very moment at which its lease ends comes in time.
_BEATS_FIRST = 1


class MemoryServer:
    """What clients share. All methods but `deliver`, `stop` and `start` need `lock`.

    `lock` is a condition, notified when a client that waits for an answer should look again.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.lock = threading.Condition(threading.Lock())
        self.keyspace = Keyspace()
        self.running = True
        self.feeds: list[Feed] = []
        self._deadlines: dict[int, float] = {}
        self._timers: dict[int, Timer] = {}
        self._granted = 0

    def txn(self, txn: Txn) -> TxnReply:
        """Decide `txn` and queue its events."""
        reply, events = self.keyspace.apply(txn)
        self._publish(events)
        return reply

    def grant(self, ttl: int) -> int:
        """A new lease that ends after `ttl` seconds without a renewal; ids count from 1."""
        lease = self._granted + 1
        self.keyspace.grant(lease, ttl)
        self._granted = lease
        self._extend(lease)
        return lease

    def renew(self, lease: int) -> int:
        """The seconds that the lease has from now on; 0 if there is no such lease."""
        ttl = self.keyspace.leases.get(lease, 0)
        if ttl:
            self._deadlines[lease] = self.clock.now() + ttl
        return ttl

    def revoke(self, lease: int) -> None:
        """End the lease, delete its keys, queue the events."""
        self._forget(lease)
        self._publish(self.keyspace.revoke(lease))

    def expire(self, lease: int) -> None:
        """End the lease as if its time were over. Raises LeaseNotFoundError if it has ended already."""
        if lease not in self.keyspace.leases:
            raise LeaseNotFoundError(f"lease {lease} cannot expire: it is unknown to the store, or has ended already")
        self._forget(lease)
        self._publish(self.keyspace.expire(lease))

    def snapshot(self, prefix: str) -> tuple[tuple[KV, ...], int]:
        """All keys below `prefix`, and the revision that this is true of."""
        return self.keyspace.kvs(prefix), self.keyspace.revision

    def compact(self) -> None:
        """Forget the history: whoever has not been told all of it gets a snapshot instead."""
        for feed in self.feeds:
            feed.compact(self.keyspace.revision)

    def deliver(self) -> None:
        """Tell every client what is queued for it. The lock must not be held."""
        with self.lock:
            feeds = tuple(self.feeds)
        for feed in feeds:
            feed.deliver()

    def stop(self) -> None:
        """Go down; the keyspace stays as it is, and no lease ends."""
        with self.lock:
            self.running = False

    def start(self) -> None:
        """Come back, with every lease extended by its full TTL: so does an etcd that finds itself leader again."""
        with self.lock:
            if not self.running:
                self.running = True
                for lease in self.keyspace.leases:
                    self._extend(lease)
            self.lock.notify_all()

    def _publish(self, events: Sequence[Event]) -> None:
        if events:
            for feed in self.feeds:
                feed.publish(events, self.keyspace.revision)

    def _extend(self, lease: int) -> None:
        self._deadlines[lease] = self.clock.now() + self.keyspace.leases[lease]
        self._arm(lease)

    def _arm(self, lease: int) -> None:
        """Have the lease looked at when its deadline comes; one timer each, however often it is renewed meanwhile."""
        if (old := self._timers.get(lease)) is not None:
            old.cancel()
        self._timers[lease] = self.clock.call_at(self._deadlines[lease], lambda: self._due(lease), rank=_BEATS_FIRST)

    def _due(self, lease: int) -> None:
        with self.lock:
            if not self.running or lease not in self._deadlines:
                return  # start() arms anew
            if self._deadlines[lease] > self.clock.now():
                self._arm(lease)
                return
            self.expire(lease)
        self.deliver()

    def _forget(self, lease: int) -> None:
        self._deadlines.pop(lease, None)
        if (timer := self._timers.pop(lease, None)) is not None:
            timer.cancel()
