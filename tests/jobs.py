"""Whole jobs for tests: the same few calls over a MemoryStore, whose clock stands still, and over a real etcd.

Each member has a client of its own, as if it were a process of its own, so that one can be cut off alone.
"""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self, TypeVar

from helpers import eventually

import psbarrier
from psbarrier import Barrier, Member, Task
from psbarrier.embedded import EtcdServer
from psbarrier.errors import StoreUnavailableError
from psbarrier.store.base import KV, Delete, Put, Range, Store, Txn, TxnReply, prefix_end
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.memory import MemoryStore

R = TypeVar("R")

PATIENCE = 30.0
"""Real seconds after which a test that waits in vain fails."""

TWO: Mapping[str, int] = {"worker": 2}
JOB: Mapping[str, int] = {"ps": 1, "worker": 2}


def call(function: Callable[..., R], *args: Any, **options: Any) -> Future[R]:
    """Run `function` on a thread of its own; `returned()` or `raised()` tell what became of it."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001 (handed over to the test)
            future.set_exception(error)

    threading.Thread(target=run, name="test-call", daemon=True).start()
    return future


def returned(future: Future[R]) -> R:
    """What the call returned; fails the test when it raised, or hangs."""
    return future.result(PATIENCE)


def raised(future: Future[Any]) -> BaseException:
    """What the call raised; fails the test when it returned, or hangs."""
    error = future.exception(PATIENCE)
    assert error is not None, f"it returned {future.result()!r}"
    return error


def own_threads() -> set[str]:
    """The names of this library's threads that run now."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("psbarrier")}


class Place:
    """Where the jobs of one test run, and the operator's hands on it."""

    def __init__(self, etcd: EtcdServer | None = None) -> None:
        self.etcd = etcd
        self.job = f"j{uuid.uuid4().hex[:12]}"
        self._memory = MemoryStore() if etcd is None else None
        self._stores: list[Store] = []
        self.members: list[Member] = []
        self.store = self.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for store in self._stores:
            if isinstance(store, MemoryStore):
                store.heal()
        for member in self.members:
            member.close()
        for store in self._stores:
            store.close()
        assert kind is not None or eventually(lambda: not own_threads()), own_threads()

    @property
    def memory(self) -> MemoryStore:
        """The store in memory, for tests that run there only: its own client is cut by nobody."""
        assert self._memory is not None
        return self._memory

    def client(self) -> Store:
        """One process's way to the store."""
        store: Store = self.memory_client() if self._memory is not None else self._etcd_client()
        self._stores.append(store)
        return store

    def memory_client(self) -> MemoryStore:
        """The same in memory, to be cut off, and healed at the end."""
        store = self.memory.client()
        self._stores.append(store)
        return store

    def _etcd_client(self) -> Store:
        assert self.etcd is not None
        return EtcdStore(self.etcd.endpoint, timeout=5.0)

    def join(self, role: str = "worker", index: int | None = None, **options: Any) -> Member:
        """join() with what a test does not care about filled in."""
        given = {"replicas": TWO, "run": "run", "address": f"{role}-{index}:2222", **options}
        store = given.pop("store", None) or self.client()
        member = psbarrier.join(store, given.pop("job", self.job), role, index, **given)
        self.members.append(member)
        return member

    def start(self, replicas: Mapping[str, int] = TWO, **options: Any) -> list[Member]:
        """A whole job that has passed the gate, in the order of roles and indices."""
        tasks = psbarrier.Replicas.of(replicas).tasks()
        members = [self.join(task.role, task.index, replicas=replicas, **options) for task in tasks]
        for member in members:
            member.cluster(PATIENCE)
        return members

    def lose(self, member: Member) -> None:
        """The member's lease ends at once, and it is not asked."""
        self.store.revoke(member.lease, until=self.soon())

    def soon(self) -> float:
        return self.store.clock.now() + PATIENCE

    def until(self, predicate: Callable[[], object], step: float = 0.3) -> None:
        """Return once `predicate` is true; where time does not pass by itself, `step` seconds pass between looks."""

        def look() -> object:
            if predicate():
                return True
            if self._memory is not None and step:
                self._memory.advance(step)
            return False

        assert eventually(look, PATIENCE), "it never came true"

    # -- what lies in the store

    def kvs(self, prefix: str | None = None) -> tuple[KV, ...]:
        """Everything below the job, or below `prefix`."""
        where = prefix or f"{self.store.prefix}/{self.job}/"
        return self.store.read(Range(where, prefix_end(where)), until=self.soon()).many(0)

    def names(self) -> set[str]:
        """The names of the job's keys, without what stands above all of them."""
        root = f"{self.store.prefix}/{self.job}/"
        return {kv.key.removeprefix(root) for kv in self.kvs()}

    def leases(self) -> set[int]:
        """The leases that live, of all jobs."""
        if self._memory is not None:
            return set(self._memory._server.keyspace.leases)
        assert self.etcd is not None
        gateway = HTTPConnection(self.etcd.endpoint, timeout=PATIENCE)
        with contextlib.closing(gateway):
            gateway.request("POST", "/v3/lease/leases", body="{}")
            return {int(lease["ID"]) for lease in json.loads(gateway.getresponse().read()).get("leases", [])}

    def over(self) -> bool:
        """Whether it is decided how the job's run ended; read from the store, for a member may hear of it later."""
        return any(name.endswith("/control/state") for name in self.names())

    def departure(self, task: Task) -> str:
        """What is recorded of how the task went away last."""
        (kv,) = [kv for kv in self.kvs() if kv.key.endswith(f"/departures/{task}")]
        return kv.value.decode()

    def apply(self, txn: Txn) -> bool:
        """Whether the transaction was accepted."""
        return self.store.txn(txn, until=self.soon()).succeeded


def barriers(members: list[Member], name: str = "b", **options: Any) -> list[Barrier]:
    """One barrier as its parties see it."""
    return [member.barrier(name, **options) for member in members]


def arrive(place: Place, *parties: Barrier, timeout: float | None = PATIENCE) -> list[Future[int]]:
    """Each party waits on a thread of its own; returns when all of them have arrived."""
    waiting = []
    for barrier in parties:
        before = barrier.n_waiting
        waiting.append(call(barrier.wait, timeout))
        place.until(lambda: barrier.n_waiting > before, step=0)  # noqa: B023 (used before the next round)
    return waiting


def rejoin(place: Place, member: Member) -> Member:
    """The task crashes without a word, and starts again."""
    place.lose(member)
    replicas = member._me.config.replicas
    return place.join(member.task.role, member.task.index, replicas=replicas, policy=member._me.config.policy)


def cuttable(memory: Place, **options: Any) -> tuple[MemoryStore, Member]:
    """A member whose network the test can cut."""
    store = memory.memory_client()
    return store, memory.join("worker", 0, store=store, **options)


class Counting:
    """A store that counts the requests that are made of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        if name in ("txn", "read", "grant", "revoke", "watch"):
            self.requests += 1
        return getattr(self._store, name)


class Untouchable:
    """A store on which every verb fails the test."""

    def __init__(self, place: Place) -> None:
        self._store = place.store

    def __getattr__(self, name: str) -> Any:
        if name in ("txn", "read", "grant", "revoke", "keep", "watch"):
            return self._refuse
        return getattr(self._store, name)

    def _refuse(self, *args: Any, **options: Any) -> Any:
        raise AssertionError(f"something was asked of the store: {args!r} {options!r}")


class Losing:
    """A store that loses the reply to one transaction: the first that writes a key with `part` in its name.

    The transaction itself was `applied` or not. `afterwards` is called before the sender learns anything.
    """

    def __init__(self, store: Store, part: str, applied: bool, afterwards: Callable[[], object] = lambda: None) -> None:
        self._store, self._part, self._applied, self._afterwards = store, part, applied, afterwards
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def txn(self, txn: Txn, *, until: float) -> TxnReply:
        if self.lost or not any(self._part in key for key in written(txn)):
            return self._store.txn(txn, until=until)
        self.lost = True
        if self._applied:
            self._store.txn(txn, until=until)
        self._afterwards()
        raise StoreUnavailableError("the reply was lost", reasons={}, applied=None)


def written(txn: Txn) -> Iterator[str]:
    """The keys that a transaction writes if it is accepted."""
    for op in txn.then:
        if isinstance(op, Txn):
            yield from written(op)
        elif isinstance(op, (Put, Delete)):
            yield op.key
