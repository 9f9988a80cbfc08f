"""What the store tests share: a sink that remembers, beats that are counted, and time that passes on either store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from psbarrier.errors import PsBarrierError
from psbarrier.store.base import KV, Event, Put, Range, Store, Txn
from psbarrier.store.memory import MemoryStore

PATIENCE = 30.0
"""Real seconds after which a test that waits in vain gives up."""


def soon(store: Store) -> float:
    """A deadline that no healthy store needs."""
    return store.clock.now() + PATIENCE


def let_pass(store: Store, seconds: float) -> None:
    """Let time pass where it does not pass by itself; a real etcd's does, and the test waits for what it brings."""
    if isinstance(store, MemoryStore):
        store.advance(seconds)


class Changing:
    """Something that other threads change and a test waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Block until `happened()`; fail the test if it does not in PATIENCE seconds."""
        with self._changed:
            assert self._changed.wait_for(happened, PATIENCE), f"it never happened; seen: {self.__dict__}"


class Recorder(Changing):
    """A sink that remembers what it was told, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Event, ...]] = []
        self.revisions: list[int] = []
        self.snapshots: list[tuple[tuple[KV, ...], int]] = []
        self.failures: list[PsBarrierError] = []

    def events(self, events: Sequence[Event], revision: int) -> None:
        """Remember one call."""
        with self._changed:
            self.calls.append(tuple(events))
            self.revisions.append(revision)
            self._changed.notify_all()

    def snapshot(self, kvs: Sequence[KV], revision: int) -> None:
        """Remember one call."""
        with self._changed:
            self.snapshots.append((tuple(kvs), revision))
            self._changed.notify_all()

    def failed(self, error: PsBarrierError) -> None:
        """Remember one call."""
        with self._changed:
            self.failures.append(error)
            self._changed.notify_all()

    @property
    def seen(self) -> list[Event]:
        """All events, whatever calls they came in."""
        return [event for call in self.calls for event in call]

    @property
    def keys(self) -> list[str]:
        """The keys of all events, in order."""
        return [event.kv.key for event in self.seen]

    def wait_for_key(self, key: str) -> None:
        """Block until an event of `key` has come."""
        self.wait_for(lambda: key in self.keys)


class Beats(Changing):
    """An on_beat callback that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[float] = []
        self.ttls: list[int] = []

    def __call__(self, sent: float, ttl: int) -> None:
        """Remember one beat."""
        with self._changed:
            self.sent.append(sent)
            self.ttls.append(ttl)
            self._changed.notify_all()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` … `work(count - 1)` at once, all started together; raise what any of them raised."""
    together = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait(PATIENCE)
            work(number)
        except BaseException as error:  # noqa: BLE001 (handed to the test below)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread of the test hangs"
    if errors:
        raise errors[0]


def etcd_store(endpoint: str) -> Store:
    """A store on the etcd at `endpoint`."""
    # Imported late: the memory half must not need gRPC.
    from psbarrier.store.etcd import EtcdStore

    return EtcdStore([endpoint])


def put(store: Store, key: str, lease: int = 0) -> int:
    """Write one key; the revision of that."""
    return store.txn(Txn(then=(Put(key, b"x", lease),)), until=soon(store)).revision


def exists(store: Store, key: str) -> bool:
    """Whether the key is there."""
    return store.read(Range(key), until=soon(store)).one(0) is not None


class InThread:
    """One call on a thread of its own, and what became of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.answer: object = None
        self.error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answer = self._call()
        except PsBarrierError as error:
            self.error = error

    def join(self) -> InThread:
        """Wait for the end of it."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the call hangs"
        return self
