"""The keyspace of an etcd as a plain value: transactions, revisions and leases, with no IO, clock, lock or thread.

MemoryStore wraps it for threads; whoever explores interleavings applies transactions to it, and copies it, directly.
A single key costs O(1), a new or deleted key one insertion into a sorted list, a range its own length.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from psbarrier.errors import InvalidArgumentError, LeaseNotFoundError, StoreRefusedError
from psbarrier.store.base import (
    KV,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Op,
    Put,
    PutResult,
    Range,
    RangeResult,
    Result,
    Txn,
    TxnReply,
)
from psbarrier.store.memory_limits import check

MIN_TTL = 2
"""The fewest seconds that etcd grants, with its default election timeout; whoever asks for less gets this."""

MAX_TTL = 9_000_000_000
"""The most seconds that etcd grants."""

FROM_KEY = "\0"
"""As the `end` of a range: no end at all."""

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}

_PUT = PutResult()


class Keyspace:
    """What one etcd holds. `revision` starts at 1, as etcd's does, and grows by one with each change.

    Every method either does all that it says, or raises and leaves everything as it was.
    """

    def __init__(self) -> None:
        self.revision = 1
        self._kvs: dict[str, KV] = {}
        self._order: list[str] = []
        self._ttls: dict[int, int] = {}
        self._attached: dict[int, set[str]] = {}

    def copy(self) -> Keyspace:
        """An independent keyspace that holds the same."""
        other = Keyspace()
        other.revision = self.revision
        other._kvs = self._kvs.copy()
        other._order = self._order.copy()
        other._ttls = self._ttls.copy()
        other._attached = {lease: keys.copy() for lease, keys in self._attached.items()}
        return other

    def __len__(self) -> int:
        return len(self._kvs)

    def __repr__(self) -> str:
        return f"<Keyspace rev {self.revision}, {len(self)} keys, {len(self._ttls)} leases>"

    def get(self, key: str) -> KV | None:
        """The key as it is now, or None."""
        return self._kvs.get(key)

    def kvs(self, prefix: str = "") -> tuple[KV, ...]:
        """All keys that start with `prefix`, ascending."""
        start = bisect_left(self._order, prefix)
        found = []
        for key in self._order[start:]:
            if not key.startswith(prefix):
                break
            found.append(self._kvs[key])
        return tuple(found)

    @property
    def leases(self) -> Mapping[int, int]:
        """Each live lease and its TTL in seconds; a view that follows the keyspace."""
        return MappingProxyType(self._ttls)

    def apply(self, txn: Txn) -> tuple[TxnReply, tuple[Event, ...]]:
        """Decide `txn`; the events are its changes in the order of its operations, all of the reply's revision.

        Raises StoreRefusedError for what etcd refuses, and LeaseNotFoundError when a put in a branch that is taken
        names an unknown lease.
        """
        check(txn)
        path: list[bool] = []
        revision = self.revision + 1 if self._decide(txn, path) else self.revision
        events: list[Event] = []
        reply = self._run(txn, iter(path), revision, events)
        self.revision = revision
        return reply, tuple(events)

    def grant(self, lease: int, ttl: int) -> int:
        """Make the lease and return the TTL that it got, MIN_TTL at least. A lease that exists stays as it is."""
        if lease <= 0:
            raise InvalidArgumentError(f"lease ids are positive, not {lease}")
        if ttl > MAX_TTL:
            raise StoreRefusedError(f"the store refuses a lease of {ttl} s: {MAX_TTL} s is the most")
        if lease not in self._ttls:
            self._attached[lease] = set()
        return self._ttls.setdefault(lease, max(ttl, MIN_TTL))

    def revoke(self, lease: int) -> tuple[Event, ...]:
        """End the lease and delete its keys in one revision, ascending; one that is gone already changes nothing."""
        self._ttls.pop(lease, None)
        keys = sorted(self._attached.pop(lease, ()))
        if keys:
            self.revision += 1
        return tuple(self._delete(key, self.revision) for key in keys)

    def expire(self, lease: int) -> tuple[Event, ...]:
        """End the lease because its time is over, which in etcd is a revocation by the server itself."""
        return self.revoke(lease)

    def _decide(self, txn: Txn, path: list[bool]) -> bool:
        """Append which branch each transaction takes, in the order they run; say whether anything will be written.

        All of this happens before the first write. A delete counts as a write if it finds a key now: one that finds
        only what the same transaction has put comes with that put.
        """
        taken = all(self._holds(compare) for compare in txn.compares)
        path.append(taken)
        writes = False
        for op in txn.then if taken else txn.otherwise:
            if isinstance(op, Put):
                self._need_lease(op.lease)
                writes = True
            elif isinstance(op, Txn):
                writes |= self._decide(op, path)
            elif isinstance(op, Delete):
                writes = writes or self._finds(op)
        return writes

    def _need_lease(self, lease: int) -> None:
        if lease and lease not in self._ttls:
            raise LeaseNotFoundError(f"lease {lease} is unknown to the store, so nothing was written: it has ended")

    def _holds(self, compare: Compare) -> bool:
        test = _COMPARISONS[compare.op]
        if compare.end is None:
            kv = self._kvs.get(compare.key)
            found = [] if kv is None else [kv]
        else:
            found = [self._kvs[key] for key in self._keys(compare.key, compare.end)]
        if not found:
            return compare.target != "value" and test(0, compare.value)
        return all(test(getattr(kv, compare.target), compare.value) for kv in found)

    def _run(self, txn: Txn, path: Iterator[bool], revision: int, events: list[Event]) -> TxnReply:
        taken = next(path)
        results = [self._do(op, path, revision, events) for op in (txn.then if taken else txn.otherwise)]
        return TxnReply(taken, revision, tuple(results))

    def _do(self, op: Op, path: Iterator[bool], revision: int, events: list[Event]) -> Result:
        if isinstance(op, Put):
            events.append(self._put(op, revision))
            return _PUT
        if isinstance(op, Range):
            return self._range(op)
        if isinstance(op, Txn):
            return self._run(op, path, revision, events)
        removed = [self._delete(key, revision) for key in self._keys(op.key, op.end)]
        events += removed
        return DeleteResult(len(removed))

    def _put(self, put: Put, revision: int) -> Event:
        old = self._kvs.get(put.key)
        if old is None:
            insort(self._order, put.key)
            kv = KV(put.key, put.value, revision, revision, 1, put.lease)
        else:
            self._detach(old)
            kv = KV(put.key, put.value, old.create, revision, old.version + 1, put.lease)
        self._kvs[put.key] = kv
        if put.lease:
            self._attached[put.lease].add(put.key)
        return Event(kv)

    def _delete(self, key: str, revision: int) -> Event:
        del self._order[bisect_left(self._order, key)]
        self._detach(self._kvs.pop(key))
        return Event(KV(key, b"", 0, revision, 0), deleted=True)

    def _detach(self, kv: KV) -> None:
        if kv.lease in self._attached:
            self._attached[kv.lease].discard(kv.key)

    def _range(self, wanted: Range) -> RangeResult:
        keys = self._keys(wanted.key, wanted.end)
        if wanted.count_only:
            return RangeResult((), len(keys))
        chosen = keys[: wanted.limit] if wanted.limit > 0 else keys
        kvs = (self._kvs[key] for key in chosen)
        return RangeResult(tuple(map(_without_value, kvs) if wanted.keys_only else kvs), len(keys))

    def _finds(self, delete: Delete) -> bool:
        return delete.key in self._kvs if delete.end is None else bool(self._keys(delete.key, delete.end))

    def _keys(self, start: str, end: str | None) -> list[str]:
        """The existing keys in [start, end), or `start` alone without an end; ascending, safe to delete by."""
        if end is None:
            return [start] if start in self._kvs else []
        first = bisect_left(self._order, start)
        return self._order[first:] if end == FROM_KEY else self._order[first : bisect_left(self._order, end)]


def _without_value(kv: KV) -> KV:
    return KV(kv.key, b"", kv.create, kv.mod, kv.version, kv.lease)
