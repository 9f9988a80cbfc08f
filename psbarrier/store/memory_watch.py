"""How a MemoryStore tells its watches: one queue per client, one deliverer at a time, never under the store's lock."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from attrs import frozen

from psbarrier.errors import StoreError
from psbarrier.store.base import KV, Event, Sink

logger = logging.getLogger("psbarrier.store.memory")


class MemoryWatch:
    """An open watch of a MemoryStore."""

    def __init__(self, prefix: str, sink: Sink, revision: int) -> None:
        self.prefix = prefix
        self.revision = revision
        self.seen = revision
        self._sink = sink
        self._stopped = False
        # Held while the sink is called, so that stop() returns only when no call is under way; re-entrant, so that
        # the sink itself may stop its watch.
        self._turn = threading.RLock()

    def __repr__(self) -> str:
        return f"<MemoryWatch {self.prefix!r} seen {self.seen}{', stopped' if self._stopped else ''}>"

    @property
    def stopped(self) -> bool:
        """Nothing more will be delivered."""
        return self._stopped

    def stop(self) -> None:
        """No call to the sink begins after this returns, except from the thread that it is called on.

        Waits for a call that is under way: do not hold a lock that the sink needs.
        """
        self._stopped = True
        with self._turn:
            pass

    def tell(self, call: Callable[[Sink], None]) -> None:
        """Let `call` loose on the sink. A sink that raises is a bug of its owner: it is logged, and ends the watch."""
        with self._turn:
            if self._stopped:
                return
            try:
                call(self._sink)
            except Exception as error:
                logger.exception("the sink of the watch on %r raised; the watch ends", self.prefix)
                self._stopped = True
                self._fail(error)

    def _fail(self, cause: Exception) -> None:
        failure = StoreError(f"the watch on {self.prefix!r} has ended because its sink raised {cause!r}")
        failure.__cause__ = cause
        try:
            self._sink.failed(failure)
        except Exception:
            logger.exception("the sink of the watch on %r raised in failed(), too", self.prefix)


@frozen
class _Batch:
    """What one watch is to be told of one revision; `events` None: that history is compacted, read again."""

    watch: MemoryWatch
    events: tuple[Event, ...] | None
    revision: int


class Feed:
    """The watches of one client and what they have yet to be told.

    `lock` is the server's: it guards the queue and the server's keyspace alike, so a watch that is added under it has
    no gap to a read under it. Sinks are called without it, by one thread at a time: whoever comes while another
    delivers leaves its events in the queue for that one. So the order is the revisions', and a sink that writes finds
    a deliverer at work, itself, and returns.
    """

    def __init__(
        self,
        lock: threading.Condition,
        *,
        silent: Callable[[], bool],
        snapshot: Callable[[str], tuple[tuple[KV, ...], int]],
    ) -> None:
        self._lock = lock
        self._silent = silent
        self._snapshot = snapshot
        self._watches: list[MemoryWatch] = []
        self._queue: deque[_Batch] = deque()
        self._delivering = False

    def add(self, watch: MemoryWatch) -> None:
        """Deliver to `watch` what is published from now on. Needs the lock."""
        self._watches = [known for known in self._watches if not known.stopped]
        self._watches.append(watch)

    def publish(self, events: Sequence[Event], revision: int) -> None:
        """Queue the events of one revision for the watches that they concern. Needs the lock."""
        for watch in self._watches:
            concerned = tuple(event for event in events if event.kv.key.startswith(watch.prefix))
            if concerned and not watch.stopped:
                self._queue.append(_Batch(watch, concerned, revision))

    def compact(self, revision: int) -> None:
        """Forget what is queued: the watches that it was for get a snapshot in its place. Needs the lock."""
        behind = dict.fromkeys(batch.watch for batch in self._queue)
        self._queue = deque(_Batch(watch, None, revision) for watch in behind)

    def deliver(self) -> None:
        """Empty the queue, unless the client is silent or another thread is at it. The lock must not be held."""
        with self._lock:
            if self._delivering:
                return
            self._delivering = True
        try:
            while (batch := self._next()) is not None:
                if batch.watch.seen < batch.revision:
                    self._hand_over(batch)
        except BaseException:
            with self._lock:
                self._delivering = False
            raise

    def close(self) -> None:
        """Stop every watch. The lock must not be held."""
        with self._lock:
            watches, self._watches = self._watches, []
            self._queue.clear()
        for watch in watches:
            watch.stop()

    def _next(self) -> _Batch | None:
        """What to deliver now. Finding nothing and ceasing to deliver are one step, so no event is left lying."""
        with self._lock:
            if self._queue and not self._silent():
                return self._queue.popleft()
            self._delivering = False
            return None

    def _hand_over(self, batch: _Batch) -> None:
        watch, events, revision = batch.watch, batch.events, batch.revision
        if events is not None:
            watch.seen = revision
            watch.tell(lambda sink: sink.events(events, revision))
            return
        with self._lock:
            kvs, now = self._snapshot(watch.prefix)
        watch.seen = now
        watch.tell(lambda sink: sink.snapshot(kvs, now))
