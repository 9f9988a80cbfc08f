"""Folds: what a process knows of a prefix, built from reads, from watch events, and from replies to its own writes.

Each key's newest revision wins, so that the three sources may arrive in any order, twice, or late. What is kept are
the keys' *states*: missing a change in between is harmless, and a re-read always suffices. A view has no lock; whoever
shares one between threads holds the session's.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from attrs import frozen

from psbarrier.errors import MalformedValueError
from psbarrier.protocol.barrier_records import BarrierRecord
from psbarrier.protocol.keys import RunKeys, parse_task
from psbarrier.protocol.records import Gone, Leader, Registration, Seal, Shared, unpack_state
from psbarrier.protocol.standing import Standing
from psbarrier.spec import Replicas, Task
from psbarrier.state import JobState
from psbarrier.store.base import KV, Delete, Event, Op, Put, Range, RangeResult, Result, Txn, TxnReply, prefix_end

T = TypeVar("T")
_RUNNING = JobState()
_NOBODY_GONE = Gone()


@frozen
class Seen:
    """A barrier's record as it was seen, and at which revision; 0 for a barrier that was never used."""

    record: BarrierRecord
    mod: int


_UNUSED = Seen(BarrierRecord(), 0)


class View:
    """The keys below one prefix. `changes` grows with every change that is `counted`, so that a reader can tell that it looked
    before.

    `complete` is the revision up to which nothing is missing: a reply to a write of one's own may be ahead of the watch
    in one key, and what happened to the others before it is then still on its way.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.changes = 0
        self.complete = 0
        self._kvs: dict[str, KV] = {}
        self._deleted: dict[str, int] = {}
        self._floor = 0
        self._decoded: dict[str, tuple[int, object]] = {}
        self._expected: dict[str, tuple[bytes, object]] = {}

    def counted(self, key: str) -> bool:  # noqa: ARG002  # here each one is
        """Whether a change of this key is one of the `changes`."""
        return True

    def expect(self, key: str, value: bytes, meaning: object) -> None:
        """Should `key` become `value`, then that is `meaning`: whoever has made the one from the other knows it already."""
        self._expected[key] = (value, meaning)

    def get(self, key: str) -> KV | None:
        return self._kvs.get(key)

    def mod(self, key: str) -> int:
        """The key's mod revision, or 0 when it does not exist: what a compare of `mod` must find."""
        kv = self._kvs.get(key)
        return kv.mod if kv else 0

    def fold(self, kv: KV) -> None:
        """`kv` is how its key stood at `kv.mod`."""
        known = self._kvs.get(kv.key)
        newest = known.mod if known else max(self._deleted.get(kv.key, 0), self._floor)
        # What was put together from our own write, whose version is 0, gives way to what etcd says of it.
        if kv.mod > newest or (known is not None and kv.mod == known.mod and not known.version and kv != known):
            self._kvs[kv.key] = kv
            self._deleted.pop(kv.key, None)
            self.changes += self.counted(kv.key)

    def fold_missing(self, key: str, revision: int) -> None:
        """There was no `key` at `revision`."""
        known = self._kvs.get(key)
        if known is not None and known.mod <= revision:
            del self._kvs[key]
            self._decoded.pop(key, None)
            self.changes += self.counted(key)
        if known is None or known.mod <= revision:
            self._deleted[key] = max(revision, self._deleted.get(key, 0))

    def fold_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.deleted:
                self.fold_missing(event.kv.key, event.kv.mod)
            else:
                self.fold(event.kv)
            self.complete = max(self.complete, event.kv.mod)

    def fold_snapshot(self, kvs: Sequence[KV], revision: int) -> None:
        """`kvs` was all there was below the prefix at `revision`."""
        present = {kv.key for kv in kvs}
        for key in [key for key, kv in self._kvs.items() if key not in present and kv.mod <= revision]:
            self.fold_missing(key, revision)
        for kv in kvs:
            self.fold(kv)
        # What the snapshot does not show did not exist then: events from before it must not bring anything back.
        self._floor = max(self._floor, revision)
        self.complete = max(self.complete, revision)
        self._deleted = {key: mod for key, mod in self._deleted.items() if mod > self._floor}

    def fold_reply(self, txn: Txn, reply: TxnReply) -> bool:
        """Everything that a transaction's reply says about this prefix, its own writes included; whether it says anything."""
        return self._fold_branch(txn, reply, reply.revision)

    def _fold_branch(self, txn: Txn, reply: TxnReply, revision: int) -> bool:
        told = False
        for op, result in zip(txn.then if reply.succeeded else txn.otherwise, reply.results, strict=True):
            if isinstance(op, Txn):
                assert isinstance(result, TxnReply)
                told |= self._fold_branch(op, result, revision)
            elif op.key.startswith(self.prefix):
                self._fold_op(op, result, revision)
                told = True
        return told

    def _fold_op(self, op: Op, result: Result, revision: int) -> None:
        if isinstance(op, Put):
            known = self._kvs.get(op.key)
            create = known.create if known else revision
            self.fold(KV(op.key, op.value, create, revision, 0, op.lease))
        elif isinstance(op, Delete) and op.end is None:
            self.fold_missing(op.key, revision)
        elif isinstance(op, Range) and isinstance(result, RangeResult) and not (op.keys_only or op.count_only):
            if op.end is None:
                self.fold(result.kvs[0]) if result.kvs else self.fold_missing(op.key, revision)
            elif op.key == self.prefix and op.end == prefix_end(self.prefix) and not op.limit:
                self.fold_snapshot(result.kvs, revision)

    def _read(self, key: str, unpack: Callable[[str, bytes], T]) -> T | None:
        kv = self._kvs.get(key)
        return None if kv is None else self._decode(kv, unpack)

    def _decode(self, kv: KV, unpack: Callable[[str, bytes], T]) -> T:
        """The value of `kv`, decoded once for each revision of it."""
        known = self._decoded.get(kv.key)
        if known is None or known[0] != kv.mod:
            value, meaning = self._expected.get(kv.key, (None, None))
            known = self._decoded[kv.key] = (kv.mod, meaning if value == kv.value else unpack(kv.key, kv.value))
        return known[1]  # type: ignore[return-value]  # one key has one kind of value


class ControlView(View):
    """What every member knows of its run. Reading a value that is malformed raises MalformedValueError, there and then.

    `vanished` grows when a key goes, or is made anew, that lives as long as the run: the run itself has gone then. Its `changes`
    leave barriers out: they concern nobody but those who wait at them, and may come a thousand times a second.
    """

    def __init__(self, keys: RunKeys) -> None:
        super().__init__(keys.control)
        self.keys = keys
        self._barriers = keys.barriers
        self.vanished = 0
        self._gone = _NOBODY_GONE

    def fold(self, kv: KV) -> None:
        known = self.get(kv.key)
        super().fold(kv)
        if known is not None and known.create < kv.create and kv.key != self.keys.leader:
            self._vanish()

    def fold_missing(self, key: str, revision: int) -> None:
        known = self.get(key)
        super().fold_missing(key, revision)
        if known is not None and self.get(key) is None and key != self.keys.leader:
            self._vanish()

    def counted(self, key: str) -> bool:
        return not key.startswith(self._barriers)

    def _vanish(self) -> None:
        self.vanished += 1
        self.changes += 1

    @property
    def state(self) -> JobState:
        return self._read(self.keys.state, unpack_state) or _RUNNING

    @property
    def ended(self) -> bool:
        """Whether the job is over and nothing is missing of what happened before: nothing else will be released."""
        mod = self.mod(self.keys.state)
        return mod > 0 and self.state.over and self.complete >= mod

    @property
    def leader(self) -> Leader | None:
        return self._read(self.keys.leader, Leader.unpack)

    @property
    def leader_create(self) -> int:
        """The create revision of the leadership: a term's number."""
        kv = self.get(self.keys.leader)
        return kv.create if kv else 0

    @property
    def seal(self) -> tuple[Seal, int] | None:
        """The announcement of the newest spec, and the revision of it."""
        kv = self._kvs.get(self.keys.cluster)
        return (self._decode(kv, Seal.unpack), kv.mod) if kv else None

    def names(self, me: Standing) -> bool:
        """Whether the newest spec of a job with an elastic role is known, and names this incarnation."""
        seal = self.seal
        # One that was sealed before we registered means a former incarnation of our task.
        return seal is not None and seal[1] > me.token and seal[0].tasks is not None and me.task in seal[0].tasks

    def members(self, replicas: Replicas, roles: Iterable[str]) -> tuple[Task, ...]:
        """The tasks of these roles: all of them, or, where one is elastic, those of the newest spec."""
        if not replicas.elastic(roles):
            return replicas.tasks(roles)
        seal, wanted = self.seal, set(roles)
        tasks = seal[0].tasks or () if seal is not None else ()
        return tuple(sorted(task for task in tasks if task.role in wanted))

    def parties(self, barrier: str, replicas: Replicas, roles: Iterable[str]) -> tuple[Task, ...]:
        """Whom the open generation of a barrier of these roles counts, or would, if it were fixed now; sorted."""
        counted = self.barrier(barrier).record.parties
        return self.members(replicas, roles) if counted is None else tuple(sorted(counted))

    @property
    def gone(self) -> Gone:
        """The list of the gone; the last one that could be read, for the leader replaces one that is malformed."""
        kv = self._kvs.get(self.keys.gone)
        if kv is None:
            self._gone = _NOBODY_GONE
        else:
            with contextlib.suppress(MalformedValueError):
                self._gone = self._decode(kv, Gone.unpack)
        return self._gone

    @property
    def gone_is_malformed(self) -> bool:
        """Whether `gone` is not what stands in etcd, for nobody could read that."""
        try:
            self._read(self.keys.gone, Gone.unpack)
        except MalformedValueError:
            return True
        return False

    def barrier(self, name: str) -> Seen:
        """Where the barrier stands, and the revision of exactly that."""
        kv = self._kvs.get(self.keys.barrier(name))
        return Seen(self._decode(kv, BarrierRecord.unpack), kv.mod) if kv else _UNUSED

    def shared(self, name: str) -> Shared | None:
        return self._read(self.keys.shared(name), Shared.unpack)


class Roster(View):
    """What the leader knows of the registrations. A key or value that is malformed counts as not registered.

    The registrations are kept up by what has changed since they were read last, for whoever looks at ten thousand of them
    whenever one comes does nothing else. One thread at a time may read them, while another folds.
    """

    def __init__(self, keys: RunKeys) -> None:
        super().__init__(keys.members)
        self._changed: deque[str] = deque()  # in one piece for both threads, as a set that is emptied would not be
        self._tasks: dict[str, Task] = {}
        self._registrations: dict[Task, Registration] = {}
        self._malformed: dict[str, str] = {}

    def fold(self, kv: KV) -> None:
        before = self.changes
        super().fold(kv)
        if self.changes != before:
            self._changed.append(kv.key)

    def fold_missing(self, key: str, revision: int) -> None:
        before = self.changes
        super().fold_missing(key, revision)
        if self.changes != before:
            self._changed.append(key)

    @property
    def registrations(self) -> Mapping[Task, Registration]:
        """Who is registered now, the finished included; it changes when it is read again."""
        while self._changed:
            self._reread(self._changed.popleft())
        return self._registrations

    def _reread(self, key: str) -> None:
        known = self._tasks.pop(key, None)
        if known is not None:
            self._registrations.pop(known, None)
        self._malformed.pop(key, None)
        kv = self.get(key)
        if kv is None:
            return
        try:
            task, registration = parse_task(self.prefix, key), Registration.unpack(key, kv.value)
        except MalformedValueError as error:
            self._malformed[key] = str(error)
        else:
            self._tasks[key] = task
            self._registrations[task] = registration

    @property
    def malformed(self) -> Mapping[str, str]:
        """The keys that name no task or hold no registration, and why; as they were when the registrations were read."""
        return self._malformed
