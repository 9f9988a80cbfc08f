"""A bidirectional stream that is opened again whenever it ends.

Each stream has one thread of ours, the reader, and one of gRPC's, the writer, which asks `_next_request` for what to
send and sleeps in between. The writer is the scheduler too: it sees when an answer is overdue, and cancels the stream.
But gRPC keeps it from the first request on until it is connected, which it may never be: an etcd that starts accepts
connections long before it serves them. So until the writer comes back, a guard looks at the time in its place. None
is needed where an answer to another request shows that there is a connection; should it have been lost since, gRPC's own
limit for a new one is short enough.

    opened → reading → ended (by etcd, the network, the writer, or a retired link) → back-off → opened …

The lock of a stream, `self._condition`, is never held while gRPC or a caller's callback runs.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from psbarrier.errors import ClosedError, StoreRefusedError, StoreUnavailableError
from psbarrier.store.backoff import Backoff
from psbarrier.store.base import Clock
from psbarrier.store.channels import Channels, Link, LinkError
from psbarrier.store.failures import Failure, Kind, explain
from psbarrier.store.login import Login, Pass

_log = logging.getLogger("psbarrier")

# A stream that lived for so many seconds was a good one: the next failure starts with a small back-off again.
_PROVEN = 5.0

# A writer that woke up so many seconds too late was starved (of the GIL, or of the processor). The answers may have
# arrived meanwhile without the reader having had a chance to read them, so they get this long once more.
_STARVED = 0.5


class ReopenError(Exception):
    """The stream is of no use as it is: `reason`. The link is fine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OpenStream:
    """One call, from its opening to its end."""

    def __init__(self, link: Link, shown: Pass) -> None:
        self.link = link
        self.shown = shown
        self.ended = False
        self.stalled: str | None = None
        self.excused_until = 0.0
        self.patience = 0.0
        self.connected = False
        self.writer: threading.Thread | None = None
        self.guard: threading.Thread | None = None
        self.call: Any = None

    def cancel(self) -> None:
        """End the call, from any thread."""
        self.ended = True
        call = self.call
        if call is not None:
            call.cancel()


class Stream(ABC):
    """See above. `_name` is what people know it by."""

    _name: str

    def __init__(self, channels: Channels, login: Login, clock: Clock, timeout: float) -> None:
        self._channels = channels
        self._login = login
        self._clock = clock
        self._timeout = timeout
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._open: OpenStream | None = None
        self._closed = False
        self._reasons: dict[str, str] = {}
        self._backoff = Backoff(len(channels.addresses))
        # Where there are several, one that the others have left behind still answers on streams for a while.
        self._alone = len(channels.addresses) == 1
        self._heard = 0.0  # when etcd's last answer came: while others come, one that is late is in a queue
        self._unconnected = 0  # attempts in a row that the guard has ended

    # What a subclass says. All but _prepare, _receive and _refused are called with the lock held.

    @abstractmethod
    def _wanted(self, now: float) -> bool:
        """There is something to stream for; if not, there may be at `_next_time`."""

    @abstractmethod
    def _begin(self) -> None:
        """A new stream, which knows nothing of what the last one was told."""

    @abstractmethod
    def _next_request(self, now: float) -> Any | None:
        """What to send at `now`, if anything."""

    @abstractmethod
    def _next_time(self) -> float | None:
        """When there may be more to send, if nobody notifies earlier."""

    @abstractmethod
    def _answer_due(self) -> float | None:
        """By when etcd must have answered."""

    @abstractmethod
    def _choose(self, link: Link) -> Callable[..., Any]:
        """The method to call."""

    @abstractmethod
    def _receive(self, response: Any) -> None:
        """Handle one response, on the reader's thread; may raise ReopenError."""

    def _prepare(self) -> None:  # noqa: B027 (there is often nothing to do)
        """Before a stream is opened, on the reader's thread."""

    def _refused(self, error: StoreRefusedError) -> None:
        """etcd refuses the stream as such; it is tried again all the same."""
        level = logging.DEBUG if self._reasons else logging.WARNING  # once for each time that it is refused
        _log.log(level, "The %s is refused and tried again: %s", self._name, error)

    # What it gets.

    def _start(self) -> None:
        """Let there be a reader; called with the lock held."""
        if self._closed:
            raise ClosedError("This EtcdStore is closed; open a new one.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"psbarrier-{self._name}", daemon=True)
            self._thread.start()
        self._condition.notify_all()

    def shut(self) -> None:
        """End the stream and its threads, without waiting for them. Idempotent."""
        with self._condition:
            self._closed = True
            opened = self._open
            self._condition.notify_all()
        if opened is not None:
            opened.cancel()

    def join(self, until: float) -> None:
        """Wait for the threads to end, until `until` at the latest; never for the calling one."""
        opened = self._open
        for thread in (self._thread, opened.writer if opened else None, opened.guard if opened else None):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - self._clock.now()))

    def _late(self, asked: float, longest: float) -> float:
        """When that answer is overdue: while etcd goes on answering others, after `longest` seconds."""
        return min(max(asked, self._heard) + self._timeout, asked + longest)

    # The reader.

    def _run(self) -> None:
        while self._await_work():
            started = self._clock.now()
            try:
                endpoint, failure = self._stream_once()
            except ClosedError:
                return
            if self._closed:
                return
            if self._clock.now() - started > _PROVEN:
                self._backoff.reset()
            level = logging.DEBUG if self._reasons else logging.INFO  # one line for each outage, not for each attempt
            _log.log(level, "The %s to etcd at %s ended: %s. It is opened again.", self._name, endpoint, failure.reason)
            self._reasons[endpoint] = failure.reason
            self._channels.pause(self._backoff.next(), float("inf"))

    def _await_work(self) -> bool:
        with self._condition:
            while not (self._closed or self._wanted(self._clock.now())):
                self._clock.wait(self._condition, self._next_time())
            return not self._closed

    def _stream_once(self) -> tuple[str, Failure]:
        try:
            link = self._channels.acquire()
        except LinkError as error:
            return error.endpoint, Failure(Kind.UNSENT, error.reason, cause=error)
        try:
            failure = self._stream_over(link)
        finally:
            self._channels.release(link)
        if failure.kind in (Kind.UNSENT, Kind.BROKEN):
            self._channels.retire(link)
        elif not failure.retryable:
            refusal = failure.error(link.endpoint)
            if isinstance(refusal, StoreRefusedError):
                self._refused(refusal)
        return link.endpoint, failure

    def _stream_over(self, link: Link) -> Failure:
        """Open the stream on `link` and read it to its end; why it ended."""
        opened: OpenStream | None = None
        try:
            self._prepare()
            opened = OpenStream(link, self._login.show(link, self._timeout))
            self._read(opened)
            return Failure(Kind.BROKEN, "etcd ended the stream")
        except (ReopenError, LinkError) as error:
            return Failure(Kind.BUSY, error.reason, cause=error)
        except grpc.RpcError as error:
            # It is the call itself, and its traceback would keep it in a circle (see _read).
            return self._explain(error.with_traceback(None), opened)
        except StoreUnavailableError as error:
            return Failure(Kind.BUSY, next(iter(error.reasons.values()), str(error)), cause=error)
        except ClosedError:
            raise
        except Exception as error:  # noqa: BLE001 (logged below; a reader that dies would silence every watch or lease of the process)
            self._channels.check_usable()
            _log.exception("The %s failed unexpectedly and is opened again.", self._name)
            return Failure(Kind.BROKEN, f"{type(error).__name__}: {error}", cause=error)

    def _explain(self, error: grpc.RpcError, opened: OpenStream | None) -> Failure:
        if opened is not None and opened.stalled is not None:
            return Failure(Kind.BROKEN, opened.stalled, cause=error)
        if opened is not None and opened.link.retired:
            return Failure(Kind.BROKEN, "given up after other requests had failed there", cause=error)
        failure = explain(error, self._timeout)
        if failure.kind is Kind.STALE_LOGIN and opened is not None:
            self._login.expire(opened.shown)
        return failure

    def _read(self, opened: OpenStream) -> None:
        with self._condition:
            if self._closed:
                return
            self._begin()
            self._open = opened
        opened.link.on_retired.append(opened.cancel)
        try:
            call = self._choose(opened.link)(self._requests(opened), metadata=opened.shown.metadata)
            opened.call = call
            if opened.ended or opened.link.retired:  # before there was a call to cancel
                call.cancel()
            for response in call:
                self._reasons.clear()
                self._heard = self._clock.now()
                if self._alone:
                    opened.link.heard = self._heard
                self._receive(response)
        finally:
            opened.link.on_retired.remove(opened.cancel)
            with self._condition:
                opened.ended = True
                self._condition.notify_all()
            opened.cancel()
            # gRPC's destructor of a call takes a lock. Left to the interpreter's end it may never get that, for the
            # thread that holds it may have been stopped in the middle; so nothing may keep the call until then.
            opened.call = None

    # The writer.

    def _requests(self, opened: OpenStream) -> Iterator[Any]:
        opened.writer = threading.current_thread()
        opened.writer.name = f"psbarrier-{self._name}-writer"
        while True:
            request = self._await_request(opened)
            if request is None:
                break
            if not (opened.connected or opened.guard or opened.link.answered):
                self._start_guard(opened)
            yield request
            if not opened.connected:
                self._connected(opened)
        if opened.stalled is not None:
            opened.cancel()

    def _await_request(self, opened: OpenStream) -> Any | None:
        """The next request, when it is due; None when the stream has ended or etcd's answer is overdue."""
        with self._condition:
            while not (opened.ended or self._closed):
                now = self._clock.now()
                due = self._answer_due()
                if due is not None and now >= max(due, opened.excused_until):
                    opened.stalled = f"no answer on the {self._name}"
                    return None
                request = self._next_request(now)
                if request is not None:
                    if not opened.connected:
                        opened.patience = self._patience(now)
                    return request
                self._sleep(opened, self._next_time(), None if due is None else max(due, opened.excused_until))
            return None

    def _patience(self, sent: float) -> float:
        """How long etcd has for the first request, which has just been given out as of `sent`.

        Not asked where the guard starts: what starves the writer on its way there must not cost etcd its time.
        """
        due = self._answer_due()
        return self._timeout if due is None else due - sent

    def _sleep(self, opened: OpenStream, *times: float | None) -> None:
        planned = min((time for time in times if time is not None), default=None)
        self._clock.wait(self._condition, planned)
        now = self._clock.now()
        if planned is not None and now > planned + _STARVED:
            opened.excused_until = now + _STARVED

    # The guard.

    def _start_guard(self, opened: OpenStream) -> None:
        """Called by the writer, when the first request is about to go out."""
        name, now = f"psbarrier-{self._name}-guard", self._clock.now()
        with self._condition:
            opened.guard = threading.Thread(target=self._guard, args=(opened, now), name=name, daemon=True)
            opened.guard.start()

    def _connected(self, opened: OpenStream) -> None:
        """The writer is back. How long the connection took says nothing of how long an answer takes."""
        with self._condition:
            opened.connected, self._unconnected = True, 0
            opened.excused_until = self._clock.now() + opened.patience
            self._condition.notify_all()

    def _guard(self, opened: OpenStream, began: float) -> None:
        """End a stream that gets no connection in the time that an answer may take.

        It may be the way there that is slow. So each time that no endpoint has let us connect, the next attempts get
        twice as long, until gRPC's own limit is the shorter one.
        """
        with self._condition:
            rounds = self._unconnected // len(self._channels.addresses)
            limit = began + opened.patience * 2 ** min(rounds, 10)
            while not (opened.connected or opened.ended or self._closed):
                until = max(limit, opened.excused_until)
                if self._clock.now() >= until:
                    opened.stalled = "no answer to the attempt to connect"
                    self._unconnected += 1
                    break
                self._sleep(opened, until)
        if opened.stalled is not None:
            opened.cancel()
