"""MemoryStore: the Store for tests, with etcd's semantics, a clock that stands still, and failures on demand.

Nothing in it has a thread: events, beats and expiries happen on the thread that writes, heals or advances.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, TypeVar

from attrs import frozen

from psbarrier.errors import ClosedError, InvalidArgumentError, StoreUnavailableError
from psbarrier.home import Home, at_home
from psbarrier.store.base import Range, Sink, Txn, TxnReply
from psbarrier.store.manual_clock import ManualClock
from psbarrier.store.memory_keep import MemoryKeeping
from psbarrier.store.memory_server import MemoryServer
from psbarrier.store.memory_watch import Feed, MemoryWatch

Verb: TypeAlias = Literal["txn", "read", "grant", "revoke", "keep", "watch"]
_VERBS = ("txn", "read", "grant", "revoke", "keep", "watch")
_Answer = TypeVar("_Answer")


class HasLease(Protocol):
    """Whatever lives on a lease: a Member, say."""

    @property
    def lease(self) -> int:
        """The lease's id."""


@frozen
class _Failure:
    error: Exception
    applied: bool


class MemoryStore:
    """A Store in memory; thread-safe. `clock` moves by `advance()` only.

    Several sessions may share one object. `client()` makes another client of the same keyspace, with a network, a
    watch queue and failures of its own, for tests in which one party is cut off and the others are not.

    A watch is told on the thread that wrote, after the write is done; when two threads write at once, one of them
    tells the events of both, in the order of their revisions, and the other returns.
    """

    request_timeout = 5.0
    prefix = "/psbarrier"
    endpoints: tuple[str, ...] = ()

    def __init__(self, clock: ManualClock | None = None, *, _server: MemoryServer | None = None) -> None:
        self._home = Home("this MemoryStore")
        self._server = _server or MemoryServer(clock or ManualClock())
        self._cut = False
        self._holds = 0
        self._closed = False
        self._failures: dict[str, deque[_Failure]] = {verb: deque() for verb in _VERBS}
        self._keepings: set[MemoryKeeping] = set()
        self._feed = Feed(self._server.lock, silent=self._is_silent, snapshot=self._server.snapshot)
        with self._server.lock:
            self._server.feeds.append(self._feed)

    def __repr__(self) -> str:
        if self._home.left:
            return f"<MemoryStore of process {self._home.pid}>"
        with self._server.lock:
            keyspace = self._server.keyspace
            said = [f"rev {keyspace.revision}", f"{len(keyspace)} keys", f"{len(keyspace.leases)} leases"]
            flags = {"cut": self._cut, "stopped": not self._server.running, "held": self._holds, "closed": self._closed}
        return f"<MemoryStore {', '.join(said + [name for name, is_set in flags.items() if is_set])}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def clock(self) -> ManualClock:
        """The only source of time; shared by all clients."""
        return self._server.clock

    @at_home
    def client(self) -> MemoryStore:
        """Another client of the same keyspace and clock, as connected as a new one is."""
        return MemoryStore(_server=self._server)

    # The six verbs.

    @at_home
    def txn(self, txn: Txn, *, until: float) -> TxnReply:
        """Decide `txn`. Without a connection it fails at once, not applied."""
        return self._call("txn", lambda: self._server.txn(txn), until, waits=False)

    @at_home
    def read(self, *ranges: Range, until: float) -> TxnReply:
        """Read all `ranges` at one revision; without a connection, wait for one until `until`."""
        return self._call("read", lambda: self._server.txn(Txn(then=ranges)), until)

    @at_home
    def grant(self, ttl: int, *, until: float) -> int:
        """A new lease of `ttl` seconds; without a connection, wait for one until `until`."""
        return self._call("grant", lambda: self._server.grant(ttl), until)

    @at_home
    def revoke(self, lease: int, *, until: float) -> None:
        """End a lease, if it has not ended. Without a connection it fails at once: who closes a member that was cut off
        does not want to wait for a clock that stands still."""
        self._call("revoke", lambda: self._server.revoke(lease), until, waits=False)

    @at_home
    def keep(
        self, lease: int, *, interval: float, on_beat: Callable[[float, int], None], first: float = 0.0
    ) -> MemoryKeeping:
        """Beat at `first` (before this returns, if that has passed), then every `interval` seconds of the clock, on the
        advancing thread."""
        if interval <= 0:
            raise InvalidArgumentError(f"the interval of keep-alives must be positive, not {interval} s")
        keeping = MemoryKeeping(self._server.clock, interval, lambda: self._renew(lease), on_beat)
        with self._server.lock:
            self._need_open()
            self._keepings = {known for known in self._keepings if not known.stopped} | {keeping}
        keeping.begin(first)
        return keeping

    @at_home
    def watch(self, prefix: str, sink: Sink, *, until: float) -> MemoryWatch:
        """Watch every key below `prefix` from now on; without a connection, wait for one until `until`."""

        def open_watch() -> MemoryWatch:
            watch = MemoryWatch(prefix, sink, self._server.keyspace.revision)
            self._feed.add(watch)
            return watch

        return self._call("watch", open_watch, until)

    def close(self) -> None:
        """Stop this client's watches and beats; its verbs raise ClosedError from now on. Idempotent.

        Nothing in a forked child: all of it is its parent's.
        """
        if self._home.left:
            return
        with self._server.lock:
            self._closed = True
            keepings, self._keepings = self._keepings, set()
            self._server.feeds = [feed for feed in self._server.feeds if feed is not self._feed]
            self._server.lock.notify_all()
        for keeping in keepings:
            keeping.stop()
        self._feed.close()

    # Time and failures, for tests.

    def advance(self, seconds: float) -> None:
        """Let time pass: beats, then leases that end, each at its moment; then wake whoever has waited long enough.

        The clock is shared, so this moves every client of it.
        """
        self.clock.advance(seconds)

    def expire(self, lease: int | HasLease) -> None:
        """End a lease, or that of a member, as if its time were over; this happens at the server, cut off or not.

        Raises LeaseNotFoundError if it has ended already.
        """
        with self._server.lock:
            self._server.expire(lease if isinstance(lease, int) else lease.lease)
        self._server.deliver()

    def cut(self) -> None:
        """Cut this client's network: nothing is answered or delivered, and leases run on, and out."""
        with self._server.lock:
            self._cut = True

    def heal(self) -> None:
        """Mend what `cut` cut: watches are told what they missed, in order, and a beat goes out at once."""
        with self._server.lock:
            self._cut = False
            self._server.lock.notify_all()
        self._catch_up()

    def stop(self) -> None:
        """Stop the server, for all clients: nothing is answered or delivered, and no lease runs out meanwhile."""
        self._server.stop()

    def start(self) -> None:
        """Start the server again: it has kept everything, and extends each lease by its full TTL, as etcd does.

        Every client is told what it missed. This one beats at once, the others at their next interval.
        """
        self._server.start()
        self._catch_up()

    def fail_next(self, verb: Verb, error: Exception | None = None, applied: bool = False) -> None:
        """Make the next call of `verb` raise `error`, after doing its work if `applied`, else without.

        The default error is a StoreUnavailableError whose `applied` is None: nobody knows. Several failures of one
        verb come one after the other. "keep" stands for the next beat, which is not confirmed, and has renewed the
        lease or not; it raises nothing. A watch that fails is never open, whatever `applied` says.
        """
        if verb not in _VERBS:
            raise InvalidArgumentError(f"{verb!r} is no verb of a store: it is one of {', '.join(_VERBS)}")
        failure = _Failure(error or _unavailable(f"the answer to {verb} was lost", applied=None), applied)
        with self._server.lock:
            self._failures[verb].append(failure)

    def hold(self) -> None:
        """Let watches lag: events queue up until as many `release()` calls. Everything else goes on."""
        with self._server.lock:
            self._holds += 1

    def release(self) -> None:
        """Undo one `hold()`; after the last, deliver what is queued, in order, before this returns."""
        with self._server.lock:
            self._holds = max(0, self._holds - 1)
        self._feed.deliver()

    @contextlib.contextmanager
    def held_watches(self) -> Iterator[None]:
        """`hold()` for a while."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def compact(self) -> None:
        """Forget the history that lagging watches still need: they get a snapshot when they are told again."""
        with self._server.lock:
            self._server.compact()

    # Behind the verbs.

    def _call(self, verb: Verb, action: Callable[[], _Answer], until: float, *, waits: bool = True) -> _Answer:
        """Do `action` at the server under its lock, then deliver without it, then answer, or fail as told to."""
        with self._server.lock:
            self._need_connection(verb, until, waits)
            failure = self._take_failure(verb)
            if failure is None:
                answer = action()
            elif failure.applied and verb != "watch":
                action()
        self._server.deliver()
        if failure is not None:
            raise failure.error
        return answer

    def _renew(self, lease: int) -> int | None:
        """The seconds that a beat has bought, or None if it stays without an answer."""
        with self._server.lock:
            if self._closed or self._is_cut_off():
                return None
            failure = self._take_failure("keep")
            if failure is not None and not failure.applied:
                return None
            ttl = self._server.renew(lease)
            return ttl if failure is None else None

    def _catch_up(self) -> None:
        self._server.deliver()
        with self._server.lock:
            keepings = () if self._is_cut_off() else [keeping for keeping in self._keepings if keeping.begun]
        for keeping in keepings:
            keeping.beat()

    def _need_connection(self, verb: Verb, until: float, waits: bool) -> None:
        """Raise unless a request can be sent before `until`; needs the lock. Waits for a connection if it may."""
        self._need_open()
        while self._is_cut_off() and waits and self.clock.now() < until:
            self.clock.wait(self._server.lock, until)
            self._need_open()
        if self._is_cut_off():
            why = "the network is cut" if self._cut else "the server is stopped"
        elif self.clock.now() >= until:
            why = "its deadline had passed before it was sent"
        else:
            return
        raise _unavailable(f"the store gave no answer to {verb}: {why}", applied=False)

    def _need_open(self) -> None:
        if self._closed:
            raise ClosedError("this MemoryStore is closed: make another one, or a client of it before closing")

    def _take_failure(self, verb: Verb) -> _Failure | None:
        waiting = self._failures[verb]
        return waiting.popleft() if waiting else None

    def _is_cut_off(self) -> bool:
        return self._cut or not self._server.running

    def _is_silent(self) -> bool:
        return self._holds > 0 or self._is_cut_off()


def _unavailable(why: str, *, applied: bool | None) -> StoreUnavailableError:
    return StoreUnavailableError(why, reasons={"memory": why}, applied=applied)
