"""Keeping leases alive: one LeaseKeepAlive stream for all leases of a store.

etcd answers keep-alives without asking its quorum. So a leader that was replaced, and does not know it yet, says of a
lease that was granted since that there is none. A death is believed when the same member tells it again after a
linearizable read: for that read it must have caught up with the quorum, and from then on it knows the lease, if there
is one.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from psbarrier.errors import ClosedError, StoreRefusedError
from psbarrier.store import compat
from psbarrier.store.channels import Link
from psbarrier.store.streams import OpenStream, ReopenError, Stream

_log = logging.getLogger("psbarrier")

# After a reconnect all leases of all members are due at once; this many seconds spread them.
_SPREAD = 0.1


class LeaseKeeping:
    """One lease that is kept alive (psbarrier.store.base.Keeping)."""

    def __init__(self, beats: KeepAlives, lease: int, interval: float, on_beat: Callable[[float, int], None]) -> None:
        self.lease = lease
        self.interval = interval
        self.on_beat = on_beat
        self.due = 0.0
        self.begun = False
        self.stopped = False
        self.doubted: tuple[OpenStream, float] | None = None  # where it was said to be dead, and read since when
        self._beats = beats

    def stop(self) -> None:
        """No further keep-alive is sent. Idempotent."""
        self._beats.drop(self)

    def __repr__(self) -> str:
        return f"<LeaseKeeping {self.lease:x} every {self.interval:g} s{', stopped' if self.stopped else ''}>"


class KeepAlives(Stream):
    """Beats for each lease at its interval, and reports what each beat bought. `read` reads anything, linearizably.

    etcd answers the requests of a stream in their order, so the oldest unanswered one tells whether it stalls. Whichever
    lease that is for, it gets no longer than the most urgent one has, which waits behind it.
    """

    _name = "keep-alive"

    def __init__(self, *args: Any, read: Callable[[], None]) -> None:
        super().__init__(*args)
        self._read_anything = read
        self._kept: set[LeaseKeeping] = set()
        self._shortest = float("inf")  # the least interval of those
        self._schedule: list[tuple[float, int, LeaseKeeping]] = []  # a heap; may hold outdated ones
        self._unanswered: deque[tuple[float, LeaseKeeping]] = deque()  # (sent, lease), oldest first
        self._serial = itertools.count()

    def keep(self, lease: int, interval: float, on_beat: Callable[[float, int], None], first: float) -> LeaseKeeping:
        """Start to keep `lease`: a beat at `first`, or now if that has passed, then one every `interval` seconds."""
        keeping = LeaseKeeping(self, lease, interval, on_beat)
        with self._condition:
            self._kept.add(keeping)
            self._shortest = min(self._shortest, interval)
            self._plan(keeping, max(first, self._clock.now()))
            try:
                self._start()
            except ClosedError:
                self._discard(keeping)
                raise
        return keeping

    def drop(self, keeping: LeaseKeeping) -> None:
        """Stop keeping it."""
        with self._condition:
            keeping.stopped = True
            self._discard(keeping)

    def _discard(self, keeping: LeaseKeeping) -> None:
        """Needs the lock."""
        self._kept.discard(keeping)
        if keeping.interval <= self._shortest:
            self._shortest = min((kept.interval for kept in self._kept), default=float("inf"))

    def _plan(self, keeping: LeaseKeeping, due: float) -> None:
        """The next beat is due then, and not at any other time that was planned before."""
        keeping.due = due
        heapq.heappush(self._schedule, (due, next(self._serial), keeping))

    def _wanted(self, now: float) -> bool:
        first = self._next_time()
        return first is not None and (first <= now or any(keeping.begun for keeping in self._kept))

    def _begin(self) -> None:
        """Nobody knows which of the former beats arrived: all that have begun beat again, at once."""
        now = self._clock.now()
        self._unanswered.clear()
        self._schedule.clear()
        for keeping in self._kept:
            again = now + random.uniform(0.0, min(_SPREAD, keeping.interval / 10))
            self._plan(keeping, again if keeping.begun else keeping.due)

    def _next_request(self, now: float) -> Any | None:
        due = self._next_time()
        if due is None or due > now:
            return None
        keeping = heapq.heappop(self._schedule)[2]
        keeping.begun = True
        self._plan(keeping, now + keeping.interval)
        self._unanswered.append((now, keeping))
        return compat.load().LeaseKeepAliveRequest(ID=keeping.lease)

    def _next_time(self) -> float | None:
        while self._schedule:
            due, _, keeping = self._schedule[0]
            if not keeping.stopped and keeping.due == due:
                return due
            heapq.heappop(self._schedule)
        return None

    def _answer_due(self) -> float | None:
        if not self._unanswered:
            return None
        sent, _ = self._unanswered[0]
        return self._late(sent, self._shortest)

    def _choose(self, link: Link) -> Callable[..., Any]:
        return link.keep_alive

    def _receive(self, response: Any) -> None:
        with self._condition:
            answered = self._match(response.ID)
        if answered is None:
            return
        sent, keeping = answered
        if response.TTL <= 0 and not keeping.stopped and not self._certain(keeping, sent):
            return
        with self._condition:
            if keeping.stopped:
                return
            keeping.doubted = None
            if response.TTL <= 0:  # more beats would not bring it back
                keeping.stopped = True
                self._discard(keeping)
        try:
            keeping.on_beat(sent, response.TTL)
        except Exception:  # noqa: BLE001 (logged; the other leases must go on)
            _log.exception("A callback for the beats of lease %x failed.", keeping.lease)

    def _certain(self, keeping: LeaseKeeping, sent: float) -> bool:
        """Whether the lease is dead, as the beat sent at `sent` was told; if not, it beats once more, at once.

        Raises StoreUnavailableError when the member cannot read: then the stream is opened again, at another one.
        """
        opened = self._open
        assert opened is not None
        if opened.link.retired:  # what is read next is read elsewhere
            raise ReopenError("another member is asked whether a lease is dead")
        if keeping.doubted is not None and keeping.doubted[0] is opened:
            # One sent before the read says nothing; one sent since is on its way. To read for each would never end: each
            # read makes the beats that were sent during it say nothing, and sends one more.
            return sent >= keeping.doubted[1]
        try:
            self._read_anything()
        except StoreRefusedError:  # no login: there is nobody else to ask
            return True
        with self._condition:
            now = self._clock.now()
            keeping.doubted = (opened, now)
            self._plan(keeping, now)
            self._condition.notify_all()
        return False

    def _match(self, lease: int) -> tuple[float, LeaseKeeping] | None:
        """The oldest unanswered beat of `lease`, and forget the older ones of others: they will not be answered."""
        while self._unanswered:
            sent, keeping = self._unanswered.popleft()
            if keeping.lease == lease:
                return sent, keeping
        return None
