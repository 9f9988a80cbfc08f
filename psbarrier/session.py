"""Session: one process's lease, watches and views, and the driver of its flows.

All waiting in the library happens here, on one condition: every change folded into a view, every confirmed keep-alive
after a silence, a loss and a close wake whoever waits, and each waiter looks again at what it waits for. No wait costs
a request.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import evolve

from psbarrier.errors import (
    ClosedError,
    PsBarrierError,
    SlotLostError,
    StoreError,
    StoreUnavailableError,
)
from psbarrier.flows.effects import (
    Apply,
    Await,
    Change,
    Effect,
    Flow,
    Follow,
    Grant,
    Keep,
    Pause,
    Progress,
    Revoke,
    Silence,
    Tell,
    Trouble,
    Unfollow,
    confirm,
)
from psbarrier.flows.patience import Patience
from psbarrier.protocol.lease import LeaseClock
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.views import View
from psbarrier.runner import Runner
from psbarrier.state import MemberState
from psbarrier.store.base import KV, Event, Keeping, Store, TxnReply, Watch

R = TypeVar("R")
logger = logging.getLogger("psbarrier")

CLOSING = 2.0
"""Seconds that closing may spend on telling etcd; the lease runs out by itself otherwise."""
OVERRUN = 1.0
"""Seconds by which no wait outlives its deadline, clearing up included."""
WARN_AFTER = 30.0


class Session:
    """Holds what one incarnation of a task has open in a store. Made empty; `joining` or `attach` fills it."""

    def __init__(
        self, store: Store, *, strict: bool = False, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self.store = store
        self.clock = store.clock
        self.condition = threading.Condition()
        self.standing: Standing | None = None
        self.strict = strict
        self.on_progress: Callable[[Progress], None] = on_progress or log_progress
        self._runner = Runner.of(store)
        self._watches: dict[View, Watch] = {}
        self._changes: dict[str, _ChangeSink] = {}
        self._leases: dict[int, Keeping] = {}
        self._member_lease = 0
        self._dead_lease = 0
        self._run_keeping: Keeping | None = None
        self._lease_clock: LeaseClock | None = None
        self._error: PsBarrierError | None = None

    # -- the state

    @property
    def state(self) -> MemberState:
        """Computed when it is read, so that it is right even if every thread of ours has been starved."""
        with self.condition:
            self._judge_strictly()
            error, certain = self._error, self.certain()
        if error is not None:
            return MemberState.CLOSED if isinstance(error, ClosedError) else MemberState.LOST
        return MemberState.CONNECTED if certain else MemberState.SUSPENDED

    def certain(self) -> bool:
        """Whether the lease surely lives now."""
        with self.condition:
            return self._lease_clock is not None and self._lease_clock.certain(self.clock.now())

    @property
    def certain_until(self) -> float:
        """When the lease stops being certain, if no keep-alive is confirmed before; by the store's clock."""
        with self.condition:
            return self._lease_clock.deadline if self._lease_clock is not None else 0.0

    @property
    def error(self) -> PsBarrierError | None:
        """Why nothing can be waited for any more: a SlotLostError, a ClosedError, or etcd's refusal."""
        return self._error

    def lose(self, error: PsBarrierError) -> None:
        """The task is lost: every wait ends with `error`, and our lease, should it live, goes at once."""
        with self.condition:
            if self._error is not None:
                return
            self._error = error
            keepings, lease = self._take_keepings(), self._member_lease
            self._notify()

        def let_go() -> None:
            for keeping in keepings:
                keeping.stop()
            if lease:
                self._revoke(lease, self.clock.now() + CLOSING)

        # Not here: whoever finds out may hold our lock, or be a thread of the store.
        self._runner.call(let_go)

    def require_open(self) -> None:
        """Raises why this session is of no use any more, if it is."""
        with self.condition:
            self._raise_error()

    def _judge_strictly(self) -> None:
        """A strict session is lost as soon as it cannot be sure of its lease. The condition is held."""
        if self._error is None and self.strict and self.standing is not None and not self.certain():
            self.lose(self._timed_out())

    def _raise_error(self) -> None:
        """The condition is held."""
        self._judge_strictly()
        if self._error is not None:
            raise self._error

    def _timed_out(self) -> SlotLostError:
        task = self.standing.task if self.standing else "the task"
        return SlotLostError(
            f"etcd confirmed no keep-alive of {task} for a whole TTL, and strict=True makes that final: "
            "let this process end, and start the task again",
            task=str(task),
            reason="no keep-alive was confirmed for a TTL",
        )

    # -- driving flows

    def run(self, flow: Flow[R]) -> R:
        """Drive `flow` to its end in this thread; its result, or its error."""
        try:
            effect = next(flow)
            while True:
                try:
                    answer = self._answer(effect)
                except PsBarrierError as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        except SlotLostError as error:
            self.lose(error)
            raise

    def start(self, flow: Flow[None]) -> None:
        """Drive `flow` in the background, for as long as the session is open."""
        self._runner.start(self, flow)

    def _answer(self, effect: Effect) -> Any:
        if isinstance(effect, Await):
            return self._wait(effect.check, effect.until)
        if isinstance(effect, Pause):
            return self._wait(lambda: None, self.pause_end(effect))
        if isinstance(effect, Change):
            return self._wait_for_change(effect)
        return self.perform(effect)

    def _wait(self, check: Callable[[], R | None], until: float | None) -> R | None:
        with self.condition:
            while True:
                value = self.look(check)
                if value is not None:
                    return value
                if until is not None and self.clock.now() >= until:
                    return None
                self.clock.wait(self.condition, self.alarm(until))

    def look(self, check: Callable[[], R | None]) -> R | None:
        """What `check` finds, with the lock held; raises why the session is of no use any more."""
        self._raise_error()
        return check()

    def alarm(self, until: float | None) -> float | None:
        """`until`, or when a strict session must look at its lease."""
        if not self.strict or self._lease_clock is None or self.standing is None:
            return until  # an alarm that nobody acts on would ring for ever
        return self._lease_clock.deadline if until is None else min(until, self._lease_clock.deadline)

    def pause_end(self, pause: Pause) -> float:
        """The first repeat comes at once, for a reply is usually lost once; later ones back off to a second."""
        seconds = 0.0 if pause.attempt <= 1 else min(1.0, 0.02 * 2**pause.attempt) * random.uniform(0.5, 1.0)
        return min(self.clock.now() + seconds, pause.until)

    # -- effects that do not wait

    def perform(self, effect: Effect) -> Any:
        """Carry out an effect that needs no waiting for others, and answer it."""
        match effect:
            case Apply():
                return self._apply(effect)
            case Grant():
                return self._grant(effect)
            case Revoke():
                self._stop_keeping(effect.lease)
                if effect.lease == self._member_lease:
                    self._member_lease = 0  # so that closing does not try it a second time
                self._revoke(effect.lease, max(effect.until + OVERRUN, self.clock.now() + OVERRUN / 5))
            case Keep():
                self._keep_run(effect)
            case Follow():
                self._follow(effect)
            case Unfollow():
                self._unfollow(effect.view)
            case Silence():
                self._stop_keeping(self._member_lease)
            case Tell():
                self._tell(effect.progress)
            case Trouble():
                logger.warning(effect.message)
        return None

    def _apply(self, effect: Apply) -> TxnReply:
        now = self.clock.now()
        until = max(min(effect.until, now + self.store.request_timeout), now + 0.05)
        reply = self.store.txn(effect.txn, until=until)
        with self.condition:
            for view in self._watches:
                view.fold_reply(effect.txn, reply)
            self._notify()
        return reply

    def _insist(self, verb: Callable[[float], R], until: float) -> R:
        """Try a verb that does no harm when it is repeated until `until`, and say every now and then what is wrong."""
        patience = Patience(self.clock.now, until)
        while True:
            try:
                return verb(patience.next())
            except StoreUnavailableError as error:
                if patience.over():
                    waited = patience.waited()
                    raise StoreUnavailableError.after(
                        waited, "did not answer", error.reasons, applied=error.applied
                    ) from error
                if patience.due():
                    endpoints = dict(error.reasons)
                    self._tell(Progress("waiting for etcd", 0, 1, endpoints, patience.waited(), patience.left()))

    def _tell(self, progress: Progress) -> None:
        """A wait for others may be a wait for etcd in truth; then say that first."""
        if self.standing is not None and not self.certain():
            silent = self.clock.now() - self.certain_until + self.standing.ttl
            progress = evolve(progress, what=f"{progress.what} (etcd has been silent for {silent:.0f} s)")
        self.on_progress(progress)

    def _grant(self, effect: Grant) -> int:
        sent = self.clock.now()
        lease = self._insist(lambda until: self.store.grant(effect.ttl, until=until), effect.until)
        if effect.member:
            with self.condition:
                self._lease_clock = LeaseClock(effect.ttl, sent)
                self._member_lease = lease
        interval = effect.ttl / 3 if effect.member else min(effect.ttl / 3, 60.0)
        if effect.member:
            self.keep(lease, interval)
        return lease

    def keep(self, lease: int, interval: float) -> None:
        """Keep the member's lease alive."""
        with self.condition:
            self._member_lease = lease  # before the first answer, which may come before `keep` returns
        keeping = self.store.keep(lease, interval=interval, on_beat=lambda sent, ttl: self._beaten(lease, sent, ttl))
        with self.condition:
            closed = self._error is not None
            if not closed:
                self._leases[lease] = keeping
        if closed:
            keeping.stop()

    def attach(self, standing: Standing, until: float) -> None:
        """Share the lease of a guardian: both keep it, so that either may die."""
        with self.condition:
            self._lease_clock = LeaseClock(standing.ttl, self.clock.now() - standing.ttl)
        self.keep(standing.lease, standing.ttl / 3)
        self.enter(standing, until)

    def _beaten(self, lease: int, sent: float, ttl: int) -> None:
        with self.condition:
            if lease != self._member_lease or self._lease_clock is None:
                return
            if ttl > 0:
                certain = self._lease_clock.certain(self.clock.now())
                self._lease_clock.confirm(sent)
                if not certain:
                    self._notify()
                return
            self._dead_lease, standing = lease, self.standing
            self._notify()
        if standing is not None:
            self.start(self._diagnose(standing))

    def enter(self, standing: Standing, until: float) -> None:
        """The task is held from now on; waits for a keep-alive's answer if the last one is too old, as after an outage.

        Its lease may have died between our registration and this.
        """
        self.end_changes()
        self._wait(lambda: self.certain() or self._dead_lease == standing.lease or None, until)
        with self.condition:
            self.standing = standing
            dead = self._dead_lease == standing.lease
        if dead:
            self.start(self._diagnose(standing))

    def _diagnose(self, standing: Standing) -> Flow[None]:
        """The lease is gone, says etcd; what else is tells the reason."""
        with contextlib.suppress(StoreError):  # then no reason is to be had, but that the lease is gone is certain
            yield from confirm(standing, self.clock.now, self.clock.now() + self.store.request_timeout)
        self.lose(
            SlotLostError(
                f"etcd no longer knows the lease of {standing.task}: this process must not act for it any more, so let "
                "it end, and start the task again if it is still wanted",
                task=str(standing.task),
                reason="its lease is gone",
            )
        )

    def _keep_run(self, effect: Keep) -> None:
        keeping = None
        if effect.lease:
            keeping = self.store.keep(effect.lease, interval=effect.interval, on_beat=self._run_beaten)
        with self.condition:
            if self._error is None:
                self._run_keeping, keeping = keeping, self._run_keeping
        if keeping is not None:  # the one before, or, if we were closed meanwhile, the one that comes too late
            keeping.stop()

    def _run_beaten(self, _sent: float, ttl: int) -> None:
        standing = self.standing
        if ttl <= 0 and standing is not None:
            self.start(confirm(standing, self.clock.now, self.clock.now() + self.store.request_timeout))

    def _follow(self, effect: Follow) -> None:
        with self.condition:
            known = effect.view in self._watches
            # Before the watch is open, so that no reply in between is missed either.
            self._watches.setdefault(effect.view, _NOT_YET)
        if not known:
            try:
                sink = _ViewSink(self, effect.view)
                watch = self._insist(
                    lambda until: self.store.watch(effect.view.prefix, sink, until=until), effect.until
                )
            except PsBarrierError:
                self._unfollow(effect.view)
                raise
            with self.condition:
                wanted = effect.view in self._watches
                if wanted:
                    self._watches[effect.view] = watch
            if not wanted:  # closed meanwhile
                watch.stop()

    def _unfollow(self, view: View) -> None:
        with self.condition:
            watch = self._watches.pop(view, None)
        if watch is not None:
            watch.stop()

    def _revoke(self, lease: int, until: float) -> None:
        try:
            self.store.revoke(lease, until=until)
        except (StoreError, ClosedError) as error:
            logger.debug("lease %x is left to run out: %s", lease, error)

    def _wait_for_change(self, effect: Change) -> None:
        known = self._changes.get(effect.prefix)
        if known is None:
            known = self._changes[effect.prefix] = _ChangeSink(self, effect.prefix)
            until = max(effect.until, self.clock.now() + 0.05)
            known.watch = self.store.watch(effect.prefix, known, until=until)
            return  # something may have changed before the watch was open
        sink = known
        self._wait(lambda: True if sink.revision > effect.revision else None, effect.until)

    def end_changes(self) -> None:
        """Stop the watches that `Change` opened."""
        for sink in self._changes.values():
            if sink.watch is not None:
                sink.watch.stop()
        self._changes.clear()

    # -- closing

    def close(self, *, revoke: bool = True) -> None:
        """End everything; with `revoke`, the lease and all that is bound to it too. Idempotent, and harmless while
        other threads wait: they get ClosedError."""
        until = self.clock.now() + CLOSING
        with self.condition:
            lease = self._member_lease
            closed = isinstance(self._error, ClosedError)
            alive = self._error is None
            if not closed:
                self._error = ClosedError("this member has been closed by its own process: join again to go on")
            keepings = self._take_keepings()
            self._notify()
        if closed:
            return
        self._runner.forget(self)
        self.end_changes()
        for keeping in keepings:
            keeping.stop()
        for view in list(self._watches):
            self._unfollow(view)
        if revoke and alive and lease:
            self._revoke(lease, max(until, self.clock.now() + 0.5))

    def _take_keepings(self) -> list[Keeping]:
        keepings = list(self._leases.values())
        self._leases.clear()
        if self._run_keeping is not None:
            keepings.append(self._run_keeping)
            self._run_keeping = None
        return keepings

    def _stop_keeping(self, lease: int) -> None:
        keeping = self._leases.pop(lease, None)
        if keeping is not None:
            keeping.stop()

    def _notify(self) -> None:
        """The condition is held."""
        self.condition.notify_all()
        self._runner.wake(self)


class _Opening:
    """Stands for a watch that is being opened."""

    revision = 0

    def stop(self) -> None:
        pass


_NOT_YET = _Opening()


# The arguments of the two sinks are named by the Store protocol, whether they are needed or not.
# ruff: noqa: ARG002


class _ViewSink:
    """Folds what a watch delivers into a view."""

    def __init__(self, session: Session, view: View) -> None:
        self._session, self._view = session, view

    def events(self, events: Sequence[Event], revision: int) -> None:
        with self._session.condition:
            self._view.fold_events(events)
            self._session._notify()

    def snapshot(self, kvs: Sequence[KV], revision: int) -> None:
        with self._session.condition:
            self._view.fold_snapshot(kvs, revision)
            self._session._notify()

    def failed(self, error: PsBarrierError) -> None:
        if isinstance(error, StoreUnavailableError | ClosedError):
            return
        # Without its watch a member learns nothing any more; to go on waiting would be to hang.
        self._session.lose(error)


class _ChangeSink:
    """Remembers when something below a prefix changed last."""

    def __init__(self, session: Session, prefix: str) -> None:
        self._session, self._prefix = session, prefix
        self.revision = 0
        self.watch: Watch | None = None

    def events(self, events: Sequence[Event], revision: int) -> None:
        # A watch on the key of worker/1 also sees worker/10.
        if any(event.kv.key == self._prefix or self._prefix.endswith("/") for event in events):
            self._changed(revision)

    def snapshot(self, kvs: Sequence[KV], revision: int) -> None:
        self._changed(revision)

    def failed(self, error: PsBarrierError) -> None:
        self._session.lose(error)

    def _changed(self, revision: int) -> None:
        with self._session.condition:
            self.revision = max(self.revision, revision)
            self._session._notify()


def log_progress(progress: Progress) -> None:
    """One line for each report: INFO at first, WARNING (which is visible without any set-up) from 30 s on.

    A wait that is meant to be long, such as that of a parameter server for the end of its job, stays at INFO.
    """
    late = progress.waited >= WARN_AFTER and not progress.expected
    logger.log(logging.WARNING if late else logging.INFO, "%s", progress)
