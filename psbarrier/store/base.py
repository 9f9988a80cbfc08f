"""The store: six verbs over plain values. EtcdStore speaks them to etcd, MemoryStore to a dict.

Nothing above this file knows gRPC or protobuf, and nothing in it does any IO. The meaning of every value is etcd's
v3 API (https://etcd.io/docs/v3.5/learning/api/): revisions grow by one with each writing transaction, `create` and
`mod` are revisions, `version` counts the writes since a key was created, and 0 stands for "there is no such key".

What a store promises:

- A transaction is decided as a whole: every compare, the nested ones too, is evaluated before any of its writes, and
  all writes carry one revision. A key may not be put twice in one transaction, branches included.
- `txn` is sent until it is answered or might have been applied: a StoreUnavailableError whose `applied` is None says
  that nobody knows. Repeating is the caller's decision. `read`, `grant` and `revoke` are harmless to repeat, and are
  repeated here until `until`.
- A watch has no gaps: it reconnects, resumes at the revision after the last one seen, and after a compaction reads
  the prefix again and hands that over as a snapshot. It ends only by `stop()` or by `failed()`.
- Time comes from `clock`, and from nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from psbarrier.errors import PsBarrierError


@frozen
class KV:
    """One key as etcd holds it."""

    key: str
    value: bytes
    create: int
    mod: int
    version: int
    lease: int = 0


@frozen
class Compare:
    """One condition of a transaction: `target` of `key` `op` `value`.

    With `end`, it must hold for every existing key in [key, end); over an empty range it is evaluated against 0, so
    `Compare("a/", "create", "==", 0, end=prefix_end("a/"))` says "there is nothing below a/". A "value" compare is
    false for a key that does not exist.
    """

    key: str
    target: Literal["create", "mod", "version", "lease", "value"]
    op: Literal["==", "!=", "<", ">"]
    value: int | bytes
    end: str | None = None


@frozen
class Range:
    """Read `key`, or every key in [key, end) in ascending order; at most `limit` of them when it is not 0."""

    key: str
    end: str | None = None
    limit: int = 0
    keys_only: bool = False
    count_only: bool = False


@frozen
class Put:
    """Write `value` under `key`, bound to `lease` (0: to none)."""

    key: str
    value: bytes
    lease: int = 0


@frozen
class Delete:
    """Delete `key`, or every key in [key, end)."""

    key: str
    end: str | None = None


@frozen
class Txn:
    """If all of `compares` hold, then `then`, else `otherwise`. May be nested as an operation."""

    compares: tuple[Compare, ...] = ()
    then: tuple[Op, ...] = ()
    otherwise: tuple[Op, ...] = ()


Op: TypeAlias = Range | Put | Delete | Txn


@frozen
class RangeResult:
    """What a Range found; `count` is the number of keys in the range, whatever `limit` was."""

    kvs: tuple[KV, ...]
    count: int


@frozen
class PutResult:
    """A Put was applied."""


@frozen
class DeleteResult:
    """How many keys a Delete removed."""

    deleted: int


@frozen
class TxnReply:
    """Which branch ran, at which revision of the store, and one result for each operation of that branch."""

    succeeded: bool
    revision: int
    results: tuple[Result, ...] = ()

    def ranged(self, index: int) -> RangeResult:
        """The whole answer of the Range at `index`."""
        result = self.results[index]
        assert isinstance(result, RangeResult)
        return result

    def many(self, index: int) -> tuple[KV, ...]:
        """The keys that the Range at `index` read."""
        return self.ranged(index).kvs

    def one(self, index: int) -> KV | None:
        """The single key that the Range at `index` read, or None."""
        kvs = self.many(index)
        return kvs[0] if kvs else None

    def nested(self, index: int) -> TxnReply:
        """The answer of the transaction nested at `index`."""
        result = self.results[index]
        assert isinstance(result, TxnReply)
        return result


Result: TypeAlias = RangeResult | PutResult | DeleteResult | TxnReply


@frozen
class Event:
    """A key changed (`kv.mod` is when) or was deleted (`kv.mod` is when, `deleted`, and the value is empty)."""

    kv: KV
    deleted: bool = False


class Sink(Protocol):
    """Who receives a watch. Called on a thread of the store, in order, one call at a time; must not block."""

    def events(self, events: Sequence[Event], revision: int) -> None:
        """These changes happened, the last of them at `revision`; all of one revision come in one call."""

    def snapshot(self, kvs: Sequence[KV], revision: int) -> None:
        """The prefix as it was at `revision`, read again after a gap: what is not in it does not exist."""

    def failed(self, error: PsBarrierError) -> None:
        """The watch has ended for good (etcd refuses it); nothing more will come."""


class Watch(Protocol):
    """An open watch. `revision` is the store's when it was opened: every later change is delivered."""

    @property
    def revision(self) -> int: ...

    def stop(self) -> None:
        """No call to the sink begins after this returns, except from the thread that it is called on."""


class Keeping(Protocol):
    """A lease that the store keeps alive."""

    def stop(self) -> None:
        """No further keep-alive is sent; the lease itself goes on until its TTL is over."""


class Clock(Protocol):
    """Where all time comes from."""

    def now(self) -> float:
        """Seconds on a clock that never jumps; it counts while the machine sleeps, where the system can."""

    def wall(self) -> float:
        """Seconds since 1970, for people: never used to decide anything."""

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        """Wait on the held `condition` until notified, or `now()` reaches `until`; may wake early."""


class Store(Protocol):
    """Six verbs: txn, read, grant, revoke, keep, watch. `until` is always an absolute time of `clock`."""

    @property
    def prefix(self) -> str:
        """Below which psbarrier's keys lie: "/psbarrier", without a slash at the end."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the store is reached, "host:port" each; empty where it is in this process."""

    @property
    def clock(self) -> Clock: ...

    @property
    def request_timeout(self) -> float:
        """How many seconds a caller without a deadline of its own should give one request."""

    def txn(self, txn: Txn, *, until: float) -> TxnReply:
        """Decide `txn`. Raises StoreUnavailableError, StoreRefusedError or LeaseNotFoundError."""

    def read(self, *ranges: Range, until: float) -> TxnReply:
        """Read all `ranges` at one revision, linearizably; repeated until answered, or until `until`."""

    def grant(self, ttl: int, *, until: float) -> int:
        """A new lease of `ttl` whole seconds. The id is chosen by the client, so a repeat grants no second one."""

    def revoke(self, lease: int, *, until: float) -> None:
        """End a lease and delete every key bound to it; one that is already gone is fine."""

    def keep(
        self, lease: int, *, interval: float, on_beat: Callable[[float, int], None], first: float = 0.0
    ) -> Keeping:
        """Send a keep-alive at `first`, a time of `clock` (now, if that has passed), and every `interval` seconds after it.

        Each answer calls `on_beat(sent, ttl)` on a thread of the store: when the request was sent, by `clock`, and the
        seconds it bought. A `ttl` of 0 or less means that etcd does not know the lease; no further one is sent. The
        callback must not block. Failures are retried quietly: silence is what the lease clock measures.
        """

    def watch(self, prefix: str, sink: Sink, *, until: float) -> Watch:
        """Watch every key below `prefix` from now on; returns once etcd has confirmed it.

        To miss nothing: watch first, then read, and drop events that are not newer than what was read. (Never a watch
        from a past revision: etcd serves those up to 100 ms late.)
        """

    def close(self) -> None:
        """Stop every watch and keep-alive and join the store's threads. Leases are not revoked. Idempotent."""


def prefix_end(prefix: str) -> str:
    """The smallest key above every key that starts with `prefix` (which is not empty and is ASCII).

    >>> prefix_end("jobs/a/")
    'jobs/a0'
    """
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
