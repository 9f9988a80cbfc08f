"""Rights: whether the login may do what a job does, tried on a key of our own that is removed again."""

from __future__ import annotations

import contextlib
import queue
import secrets
import time
from collections.abc import Callable, Sequence

from psbarrier.doctor.finding import Finding, Place
from psbarrier.doctor.server import failure
from psbarrier.errors import PsBarrierError, StoreError, StoreRefusedError
from psbarrier.protocol.keys import JobKeys, below
from psbarrier.store.base import KV, Compare, Delete, Event, Put, Range, Store, Txn

TOGETHER = 6.0
"""Seconds for all checks of the rights."""
_TTL = 60
"""Seconds after which etcd removes what an interrupted check has left."""

CHECKS = ("read keys", "lease", "watch", "write", "nested", "event", "delete")


def examine(store: Store, job: JobKeys, *, one_job: bool) -> tuple[Finding, ...]:
    """Read, lease, watch, write, nested transaction, event and delete, in that order, as far as it gets.

    `one_job`: the keys are those of a job that was named; else of a made-up one, which stands for all below the prefix.
    """
    place = Place(f"keys {job.root}" if one_job else f"keys {job.prefix}/")
    trial = _Trial(store, job, place, one_job=one_job)
    try:
        return trial.run()
    finally:
        trial.clean_up()


class _Sink:
    """Hears of the probe key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.heard: queue.SimpleQueue[str] = queue.SimpleQueue()

    def events(self, events: Sequence[Event], _revision: int) -> None:
        """The probe key, perhaps."""
        if any(event.kv.key == self._key for event in events):
            self.heard.put("")

    def snapshot(self, _kvs: Sequence[KV], _revision: int) -> None:
        """A gap was closed; the next event will do."""

    def failed(self, error: PsBarrierError) -> None:
        """etcd refuses the watch, after it had confirmed it."""
        self.heard.put(str(error))


class _Trial:
    def __init__(self, store: Store, job: JobKeys, place: Place, *, one_job: bool) -> None:
        self._store, self._job, self._place, self._one_job = store, job, place, one_job
        self._key = job.probe(secrets.token_hex(8))
        self._until = store.clock.now() + TOGETHER
        self._lease = 0
        self._sink = _Sink(self._key)
        self._close: list[Callable[[], object]] = []

    def run(self) -> tuple[Finding, ...]:
        found = []
        steps = (self._read, self._grant, self._watch, self._write, self._nest, self._hear, self._delete)
        for check, step in zip(CHECKS, steps, strict=True):
            started = time.monotonic()
            try:
                said = step()
            except StoreError as error:
                found.append(self._refusal(check, error))
                break
            found.append(self._place.ok(check, f"{said} ({(time.monotonic() - started) * 1000:.1f} ms)"))
        left = CHECKS[len(found) :]
        return (*found, self._place.skipped("others", f"{', '.join(left)}")) if left else tuple(found)

    def clean_up(self) -> None:
        """Leave nothing behind; what etcd does not answer now, it does by itself when the lease is over."""
        for close in self._close:
            close()
        if self._lease:
            with contextlib.suppress(StoreError):
                self._store.revoke(self._lease, until=self._store.clock.now() + 1)

    def _refusal(self, check: str, error: StoreError) -> Finding:
        found = failure(self._place, check, error, "etcd answered before: look at its log")
        if not (isinstance(error, StoreRefusedError) and "permission denied" in str(error)):
            return found
        advice = "let an administrator give it the right, or call psbarrier etcd-user JOB"
        if not self._one_job:
            advice = f"if this user is for one job only, name that: psbarrier doctor JOB; else {advice}"
        return self._place.problem(check, "this user has no right to do that", advice, "refused")

    def _read(self) -> str:
        self._store.read(Range(*below(self._job.root), limit=1, keys_only=True), until=self._until)
        return "allowed"

    def _grant(self) -> str:
        self._lease = self._store.grant(_TTL, until=self._until)
        return "granted"

    def _watch(self) -> str:
        watch = self._store.watch(self._job.root, self._sink, until=self._until)
        self._close.append(watch.stop)
        return "allowed"

    def _write(self) -> str:
        put = Put(self._key, b"psbarrier doctor", self._lease)
        self._store.txn(Txn((Compare(self._key, "create", "==", 0),), (put,)), until=self._until)
        return "allowed, with a lease"

    def _nest(self) -> str:
        inner = Txn((Compare(self._key, "version", "==", 1),), (Put(self._key, b"again", self._lease),))
        self._store.txn(Txn(then=(inner, Range(self._job.probe("none")))), until=self._until)
        return "transactions within transactions are allowed"

    def _hear(self) -> str:
        try:
            problem = self._sink.heard.get(timeout=max(0.01, self._until - self._store.clock.now()))
        except queue.Empty:
            raise StoreError("the watch did not tell of a key that was written; look at etcd's log") from None
        if problem:
            raise StoreError(problem)
        return "the watch told of the write"

    def _delete(self) -> str:
        self._store.txn(Txn(then=(Delete(self._key),)), until=self._until)
        return "allowed"
