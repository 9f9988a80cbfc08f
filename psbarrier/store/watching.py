"""Watching prefixes: one Watch stream for all watches of a store.

The server numbers the watches of a stream; which number is whose follows from the order, because `created` replies
come in the order of the requests. A watch stands in exactly one of these places (all guarded by the stream's lock):

    _to_create → _asked → _by_id        and in _watches for as long as somebody wants it

After a disconnect each watch is created again at the revision after the last one it saw. When that is not possible,
because etcd has compacted that revision away or came back with another history, the prefix is read again, handed over
as a snapshot, and watched from there: `gap` marks a watch that waits for that.

A peer that vanished silently is noticed by gRPC's pings (within 15 s), a watch that is not confirmed by the writer
(within the request timeout).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec

from psbarrier.errors import ClosedError, PsBarrierError, StoreError, StoreRefusedError, StoreUnavailableError
from psbarrier.store import wire
from psbarrier.store.base import Sink, TxnReply
from psbarrier.store.channels import Link
from psbarrier.store.failures import Failure, Kind, explain_text
from psbarrier.store.prefix_watch import PrefixWatch
from psbarrier.store.streams import OpenStream, ReopenError, Stream

P = ParamSpec("P")
_log = logging.getLogger("psbarrier")

# Seconds for which a watch that was open is deaf because etcd does not let us in; a secret takes a minute or two to reach
# every node.
_BEARABLE = 300.0

# Seconds that a watch may go unconfirmed while the stream brings other answers: a thousand watches that are opened at once
# are confirmed one by one, and to open them all anew because the last ones are late would only double the work.
_QUEUE = 60.0


class Watching(Stream):
    """All watches of a store. `read` reads a whole prefix, linearizably."""

    _name = "watch"

    def __init__(self, *args: Any, read: Callable[[str], TxnReply]) -> None:
        super().__init__(*args)
        self._read_prefix = read
        self._watches: dict[PrefixWatch, None] = {}  # a set that keeps its order
        self._to_create: deque[PrefixWatch] = deque()
        self._to_cancel: deque[int] = deque()
        self._asked: deque[tuple[PrefixWatch, float]] = deque()
        self._by_id: dict[int, PrefixWatch] = {}
        self._refused_since: float | None = None

    def open(self, prefix: str, sink: Sink, until: float) -> PrefixWatch:
        """A new watch, once etcd has confirmed it."""
        # A condition of its own: a thousand that open a watch at once would wake one another for each answer.
        watch = PrefixWatch(prefix, sink, self.drop, threading.Condition(self._lock))
        started = self._clock.now()
        with self._condition:
            self._watches[watch] = None
            self._to_create.append(watch)
            try:
                self._start()
                while not watch.confirmed and watch.error is None and not self._closed and self._clock.now() < until:
                    self._clock.wait(watch.answered, until)
                if watch.confirmed:
                    return watch
                raise watch.error or self._unconfirmed(started)
            except BaseException:
                watch.stopped = True
                self._drop(watch)
                raise

    def _unconfirmed(self, started: float) -> PsBarrierError:
        if self._closed:
            return ClosedError("This EtcdStore was closed while a watch was being opened.")
        seconds = self._clock.now() - started
        reasons = dict(self._reasons) or {self._channels.endpoint: f"no answer in {seconds:.1f} s"}
        return StoreUnavailableError.after(seconds, "did not confirm a watch", reasons, applied=False)

    def drop(self, watch: PrefixWatch) -> None:
        """Nobody wants it any more."""
        with self._condition:
            self._drop(watch)

    def _drop(self, watch: PrefixWatch) -> None:
        """Needs the lock. A watch that etcd has not numbered yet is cancelled when it has."""
        self._watches.pop(watch, None)
        for number in [number for number, other in self._by_id.items() if other is watch]:
            del self._by_id[number]
            self._to_cancel.append(number)
        self._condition.notify_all()

    def shut(self) -> None:
        """End the stream, and whoever waits for a watch to open."""
        super().shut()
        with self._condition:
            for watch in self._watches:
                watch.answered.notify_all()

    # The writer's side.

    def _wanted(self, now: float) -> bool:  # noqa: ARG002  # a watch is wanted at once
        return bool(self._watches)

    def _begin(self) -> None:
        self._asked.clear()
        self._to_cancel.clear()
        self._by_id.clear()
        self._to_create = deque(self._watches)

    def _next_request(self, now: float) -> Any | None:
        if self._to_cancel:
            return wire.cancel_request(self._to_cancel.popleft())
        while self._to_create:
            watch = self._to_create.popleft()
            if not watch.stopped:
                self._asked.append((watch, now))
                return wire.watch_request(watch.prefix, watch.seen + 1 if watch.confirmed else 0)
        return None

    def _next_time(self) -> float | None:
        return None

    def _answer_due(self) -> float | None:
        return self._late(self._asked[0][1], _QUEUE + self._timeout) if self._asked else None

    def _choose(self, link: Link) -> Callable[..., Any]:
        return link.watch

    # The reader's side.

    def _prepare(self) -> None:
        for watch in [watch for watch in list(self._watches) if watch.gap]:
            self._reread(watch)

    def _refused(self, error: StoreRefusedError) -> None:
        """We are not let in. Who opens a watch is told; one that was open bears it for a while, for a password that is
        being changed may be refused in between. But it is deaf meanwhile, so not for ever."""
        super()._refused(error)
        now = self._clock.now()
        if self._refused_since is None:
            self._refused_since = now
        for watch in list(self._watches):
            if not watch.confirmed or now >= self._refused_since + _BEARABLE:
                self._fail(watch, error)

    def _receive(self, response: Any) -> None:
        if response.created:
            self._created(response)
            return
        watch = self._by_id.get(response.watch_id)
        if watch is None:
            return
        if response.canceled:
            with self._condition:
                self._by_id.pop(response.watch_id, None)
            self._cancelled(watch, response)
        elif response.events:
            self._changed(watch, response)
        else:
            # A progress notice: etcd sends it only to a watch that has been told everything up to this revision.
            watch.seen = max(watch.seen, response.header.revision)

    def _created(self, response: Any) -> None:
        self._refused_since = None
        with self._condition:
            watch, _ = self._asked.popleft()
            if not response.canceled:
                if watch.stopped:
                    self._to_cancel.append(response.watch_id)
                    self._condition.notify_all()
                    return
                self._by_id[response.watch_id] = watch
                if not watch.confirmed:
                    watch.revision = watch.seen = response.header.revision
                    watch.cluster = response.header.cluster_id
                    watch.confirmed = True
                    watch.answered.notify_all()
                    return
        if not response.canceled:
            self._check_history(watch, response)
            return
        self._cancelled(watch, response)
        # Before 3.4.44 and 3.5.6, etcd deafens the stream's first watch when it refuses a later one.
        raise ReopenError("etcd refused one of its watches")

    def _changed(self, watch: PrefixWatch, response: Any) -> None:
        """Hand over events. The answer's own revision may be ahead of them; that of the last event never is."""
        events = [wire.event(event) for event in response.events if event.kv.mod_revision > watch.seen]
        if events:
            watch.seen = events[-1].kv.mod
            self._deliver(watch, watch.sink.events, events, watch.seen)

    def _check_history(self, watch: PrefixWatch, response: Any) -> None:
        """A watch was resumed at a revision; is that still the same history?

        A member of etcd that lags behind also answers with an older revision. A linearizable read tells the two
        apart: it is never older than what was once seen.
        """
        same_cluster = response.header.cluster_id == watch.cluster
        if same_cluster and response.header.revision >= watch.seen:
            return
        reply = self._read_prefix(watch.prefix)
        if same_cluster and reply.revision >= watch.seen:
            return
        watch.cluster = response.header.cluster_id
        with self._condition:
            if self._by_id.pop(response.watch_id, None) is not None:
                self._to_cancel.append(response.watch_id)
        self._adopt(watch, reply)
        self._create_again(watch)

    def _cancelled(self, watch: PrefixWatch, response: Any) -> None:
        if response.compact_revision:
            watch.gap = True
            self._reread(watch)
            self._create_again(watch)
            return
        opened = self._open
        assert opened is not None
        reason: str = response.cancel_reason
        failure = explain_text(reason)
        if failure is None or (failure.retryable and failure.kind is not Kind.STALE_LOGIN):
            raise ReopenError(reason or "etcd ended a watch without a reason")
        if self._login.renewable and (failure.kind is Kind.STALE_LOGIN or self._may_be_stale(opened)):
            self._login.expire(opened.shown)
            raise ReopenError(reason)
        advice = failure.advice or "log in: give user and password"
        refusal = Failure(Kind.REFUSED, f"{failure.reason} (watching {watch.prefix!r})", advice)
        self._fail(watch, refusal.error(opened.link.endpoint))

    def _may_be_stale(self, opened: OpenStream) -> bool:
        """Whether "permission denied" may mean a dead token: old servers do not tell the two apart.

        A token that was issued over the very connection of the stream is alive, so then it is about rights.
        """
        return opened.shown.link is not opened.link

    def _reread(self, watch: PrefixWatch) -> None:
        """Close a gap; raises StoreUnavailableError when that has to wait."""
        try:
            reply = self._read_prefix(watch.prefix)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            self._fail(watch, error)
        else:
            self._adopt(watch, reply)

    def _adopt(self, watch: PrefixWatch, reply: TxnReply) -> None:
        watch.gap = False
        watch.seen = reply.revision
        self._deliver(watch, watch.sink.snapshot, reply.many(0), watch.seen)

    def _create_again(self, watch: PrefixWatch) -> None:
        with self._condition:
            if watch in self._watches:
                self._to_create.append(watch)
                self._condition.notify_all()

    def _deliver(self, watch: PrefixWatch, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        problem = watch.deliver(call, *args, **kwargs)
        if problem is not None:
            _log.error("The receiver of the watch on %r failed; the watch ends.", watch.prefix, exc_info=problem)
            error = StoreError(f"The watch on {watch.prefix!r} ended because its receiver raised {problem!r}.")
            error.__cause__ = problem
            self._fail(watch, error)

    def _fail(self, watch: PrefixWatch, error: PsBarrierError) -> None:
        """The watch ends for good; whoever waits for it to open, or else its sink, is told."""
        with self._condition:
            watch.error = error
            watch.answered.notify_all()
            self._drop(watch)
        if watch.confirmed:
            problem = watch.deliver(watch.sink.failed, error)
            if problem is not None:
                _log.error("The receiver of the watch on %r failed.", watch.prefix, exc_info=problem)
        watch.stopped = True
