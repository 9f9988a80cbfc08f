"""Fabric: one etcd, its watches and leases, and the network between it and the processes.

Transactions are atomic, and all else is late: what a watch delivers waits in a channel, and requests, expiries and
starts wait in `late`, until the schedule picks them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from attrs import frozen

from psbarrier.errors import LeaseNotFoundError
from psbarrier.protocol.views import View
from psbarrier.store.base import KV, Event, Txn, TxnReply
from psbarrier.store.memory_kv import Keyspace

if TYPE_CHECKING:
    from explorer.monitors import Monitor
    from explorer.process import Process


@frozen
class Snapshot:
    """What stood below a prefix."""

    kvs: tuple[KV, ...]
    revision: int


class Channel:
    """A watch: what has happened below its view's prefix, and was not delivered yet."""

    def __init__(self, process: Process, view: View) -> None:
        self.process, self.view = process, view
        self.queue: deque[tuple[Event, ...] | Snapshot] = deque()

    def told(self) -> list[str]:
        """What the oldest message says, for people."""
        message = self.queue[0]
        if isinstance(message, Snapshot):
            return [f"a snapshot of {self.view.prefix} at {message.revision}"]
        return [f"{e.kv.key.removeprefix(self.view.prefix)}@{e.kv.mod}" + " gone" * e.deleted for e in message]

    def deliver(self) -> None:
        """Fold the oldest message into the view."""
        message = self.queue.popleft()
        if isinstance(message, Snapshot):
            self.view.fold_snapshot(message.kvs, message.revision)
        else:
            self.view.fold_events(message)
        self.process.stir()


class Fabric:
    """What all processes share."""

    def __init__(self, monitor: Monitor) -> None:
        self.keyspace = Keyspace()
        self.monitor = monitor
        self.channels: list[Channel] = []
        self.late: list[tuple[str, Callable[[], object]]] = []
        self.owners: dict[int, Process] = {}
        self.history: list[tuple[int, tuple[str, ...]]] = []
        self._leases = 0

    def apply(self, who: Process | None, txn: Txn) -> TxnReply:
        """Decide a transaction, tell the watches, and check the promises."""
        reply, events = self.keyspace.apply(txn)
        if events:
            self._happened(events, reply.revision)
            self.monitor.applied(who, events)
        return reply

    def arrive(self, who: Process, txn: Txn) -> None:
        """A request that was long on its way reaches etcd; nobody waits for its reply any more."""
        try:
            self.apply(who, txn)
        except LeaseNotFoundError:
            return

    def grant(self, owner: Process, ttl: int) -> int:
        self._leases += 1
        self.keyspace.grant(self._leases, ttl)
        self.owners[self._leases] = owner
        return self._leases

    def end_lease(self, lease: int) -> None:
        """The lease is revoked, or runs out; its owner hears of it with a later keep-alive."""
        if lease not in self.keyspace.leases:
            return
        events = self.keyspace.revoke(lease)
        if events:
            self._happened(events, self.keyspace.revision)
            self.monitor.applied(None, events)
        owner = self.owners[lease]
        if owner.alive and lease in (*owner.leases, owner.run_lease):
            self.late.append((f"{owner} beats for lease {lease}, which is gone", lambda: owner.beaten(lease)))

    def expire_later(self, leases: Sequence[int]) -> None:
        """Nobody keeps these leases any more."""
        for lease in leases:
            if lease in self.keyspace.leases:
                self.late.append((f"lease {lease} of {self.owners[lease]} ends", partial(self.end_lease, lease)))

    def changed(self, prefix: str, revision: int) -> bool:
        """Whether something below `prefix`, or the key itself, changed after `revision`."""
        for when, keys in reversed(self.history):
            if when <= revision:
                return False
            if any(key == prefix or (prefix.endswith("/") and key.startswith(prefix)) for key in keys):
                return True
        return False

    def _happened(self, events: tuple[Event, ...], revision: int) -> None:
        self.history.append((revision, tuple(event.kv.key for event in events)))
        for channel in self.channels:
            prefix = channel.view.prefix
            seen = tuple(event for event in events if event.kv.key.startswith(prefix))
            if seen:
                channel.queue.append(seen)

    def follow(self, process: Process, view: View) -> Channel:
        channel = Channel(process, view)
        self.channels.append(channel)
        return channel

    def resync(self, channel: Channel) -> None:
        """The watch had a gap: what was on its way is lost, and a snapshot comes instead."""
        channel.queue.clear()
        channel.queue.append(Snapshot(self.keyspace.kvs(channel.view.prefix), self.keyspace.revision))
