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
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import evolve

from psbarrier.drive import Drive
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
from psbarrier.hold import Hold
from psbarrier.home import Home, at_home
from psbarrier.protocol.standing import Standing
from psbarrier.report import log_progress
from psbarrier.runner import Runner
from psbarrier.shelf import Shelf
from psbarrier.shelter import dismiss, shelter
from psbarrier.state import MemberState
from psbarrier.store.base import Store, TxnReply
from psbarrier.watches import ChangeSink, Watches

R = TypeVar("R")
logger = logging.getLogger("psbarrier")

CLOSING = 2.0
"""Seconds that closing may spend on telling etcd; the lease runs out by itself otherwise."""
OVERRUN = 1.0
"""Seconds by which no wait outlives its deadline, clearing up included."""


class Session:
    """Holds what one incarnation of a task has open in a store. Made empty; `joining` or `attach` fills it."""

    def __init__(
        self, store: Store, *, strict: bool = False, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self._home = Home("this session")
        self.store = store
        self.clock = store.clock
        self.condition = threading.Condition()
        self.standing: Standing | None = None
        self.strict = strict
        self.on_progress: Callable[[Progress], None] = on_progress or log_progress
        self._runner = Runner.of(store)
        self.shelf = Shelf(store, self.condition)
        self._watches = Watches(store, self.condition, self._notify, self._heard, self.lose)
        self._hold = Hold(store, self.condition, self._notify, self._lease_died, self._run_died)
        self._error: PsBarrierError | None = None

    # -- the state

    @property
    @at_home
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
        return self._hold.certain()

    @property
    def certain_until(self) -> float:
        """When the lease stops being certain, if no keep-alive is confirmed before; by the store's clock."""
        return self._hold.deadline or 0.0

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
            keepings, lease = self._hold.let_go(), self._hold.lease
            self._notify()

        def let_go() -> None:
            for keeping in keepings:
                keeping.stop()
            if lease:
                self._hold.revoke(lease, self.clock.now() + CLOSING)

        # Not here: whoever finds out may hold our lock, or be a thread of the store.
        self._runner.call(let_go)

    @at_home
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

    @at_home
    def run(self, flow: Flow[R]) -> R:
        """Drive `flow` to its end; its result, or its error."""
        drive = Drive(self, flow)
        return shelter(drive.run, drive.give_up)

    @at_home
    def start(self, flow: Flow[None]) -> None:
        """Drive `flow` in the background, for as long as the session is open."""
        self._runner.start(self, flow)

    def look(self, check: Callable[[], R | None]) -> R | None:
        """What `check` finds, with the lock held; raises why the session is of no use any more."""
        if self.strict or self._error is not None:
            self._raise_error()
        return check()

    def alarm(self, until: float | None) -> float | None:
        """`until`, or when a strict session must look at its lease."""
        if not self.strict or self.standing is None:
            return until  # an alarm that nobody acts on would ring for ever
        deadline = self._hold.deadline
        if deadline is None:
            return until
        return deadline if until is None else min(until, deadline)

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
                self._hold.drop(effect.lease, max(effect.until + OVERRUN, self.clock.now() + OVERRUN / 5))
            case Keep():
                self._hold.keep_run(effect.lease, effect.interval)
            case Follow():
                self._follow(effect)
            case Unfollow():
                self._watches.unfollow(effect.view)
            case Silence():
                self._hold.stop(self._hold.lease)
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
            self._watches.fold_reply(effect.txn, reply)
        return reply

    def _insist(self, verb: Callable[[float], R], until: float) -> R:
        """Try a verb that does no harm when it is repeated until `until`, and say every now and then what is wrong."""
        patience = Patience(self.clock.now, until)
        while True:
            try:
                return verb(patience.next())
            except StoreUnavailableError as error:
                self.require_open()
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
            self._hold.take(lease, effect.ttl, sent)
        else:
            self._hold.found(lease, sent)
        return lease

    def attach(self, standing: Standing, until: float) -> None:
        """Share the lease of a guardian: both keep it, so that either may die."""
        self._hold.take(standing.lease, standing.ttl, self.clock.now() - standing.ttl)
        self.enter(standing, until)

    def enter(self, standing: Standing, until: float, duty: Flow[None] | None = None) -> None:
        """The task is held from now on; waits for a keep-alive's answer if the last one is too old, as after an outage.

        Its lease may have died between our registration and this. The `duty` is what to start in the background then.
        """
        self.run(self._entering(standing, until, duty))

    def _entering(self, standing: Standing, until: float, duty: Flow[None] | None) -> Flow[None]:
        self._watches.end_changes()
        yield Await(lambda: self.certain() or self._hold.dead(standing.lease) or None, until)
        with self.condition:
            self.standing = standing
            dead = self._hold.dead(standing.lease)
        if dead:
            self.start(self._diagnose(standing))
        if duty is not None:
            self.start(duty)

    def _lease_died(self) -> None:
        standing = self.standing
        if standing is not None:
            self.start(self._diagnose(standing))

    def _run_died(self) -> None:
        standing = self.standing
        if standing is not None:
            self.start(confirm(standing, self.clock.now, self.clock.now() + self.store.request_timeout))

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

    def _follow(self, effect: Follow) -> None:
        if self._watches.begin(effect.view):
            try:
                self._insist(lambda until: self._watches.follow(effect.view, until), effect.until)
            except PsBarrierError:
                self._watches.unfollow(effect.view)
                raise

    def change(self, effect: Change) -> ChangeSink | None:
        """What remembers the changes that are waited for; None when some may have been missed before it was made."""
        return self._watches.change(effect.prefix, max(effect.until, self.clock.now() + 0.05))

    # -- closing

    def close(self, *, revoke: bool = True) -> None:
        """End everything; with `revoke`, the lease and all that is bound to it too. Idempotent, and harmless while
        other threads wait: they get ClosedError."""
        if not self._home.left:
            shelter(lambda: self._close(revoke=revoke))
            dismiss()

    def _close(self, *, revoke: bool) -> None:
        until = self.clock.now() + CLOSING
        with self.condition:
            lease = self._hold.lease
            closed = isinstance(self._error, ClosedError)
            alive = self._error is None
            if not closed:
                self._error = ClosedError("this member has been closed by its own process: join again to go on")
            keepings = self._hold.let_go()
            self._notify()
        if closed:
            return
        self._runner.forget(self)
        for keeping in keepings:
            keeping.stop()
        self._watches.close()
        if revoke and alive and lease:
            self._hold.revoke(lease, max(until, self.clock.now() + 0.5))

    def _heard(self, counted: bool) -> None:
        """A view was folded; the condition is held. To wake the runner's thread for each barrier would take a tenth of a
        barrier's time, and no flow in the background looks at barriers, which are not `counted` as a change."""
        if counted:
            self._notify()
        else:
            self.condition.notify_all()

    def _notify(self) -> None:
        """Something has changed that a flow may wait for; the condition is held."""
        self.condition.notify_all()
        self._runner.wake(self)
