"""Process: drives flows as a Session and its Runner do, one effect at a time, whenever the schedule says so."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from explorer.fabric import Channel
from explorer.violation import Violation
from psbarrier.errors import PsBarrierError, SlotLostError, StoreError, StoreUnavailableError
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
    Revoke,
    Silence,
    Unfollow,
    confirm,
)
from psbarrier.flows.joining import Joined
from psbarrier.flows.leading import leading
from psbarrier.flows.meeting import Meeting
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.views import View

if TYPE_CHECKING:
    from explorer.world import World


SOON = 5.0
"""Seconds that a session gives a request of its own."""


class Interrupted(BaseException):
    """Ctrl-C, in the main thread of a simulated process."""


class Coroutine:
    """One flow under way. Its clock is its own and moves only by what it waits for, so every order of deadlines occurs."""

    def __init__(self, process: Process, name: str) -> None:
        self.process, self.name = process, name
        self.flow: Flow[Any]
        self.effect: Effect
        self.now = 1000.0
        self.deadline: float | None = None
        self.stirred = True
        self.stalled = 0
        self._found: Any = None
        self._error: PsBarrierError | None = None
        self._scanned = -1

    def __str__(self) -> str:
        return f"{self.process} {self.name}"

    def clock(self) -> float:
        return self.now

    def ready(self) -> bool:
        """Whether the effect it asked for can be carried out now."""
        kind = type(self.effect)
        if kind is Await:
            if self.stirred:
                self._look(self.effect.check)  # type: ignore[union-attr]
            return self._found is not None or self._error is not None
        if kind is Change:
            return self._changed(self.effect)  # type: ignore[arg-type]
        return True

    def _look(self, check: Callable[[], Any]) -> None:
        self.stirred, self._found, self._error = False, None, None
        try:
            self._found = self.process.look(check)
        except PsBarrierError as error:
            self._error = error

    def _changed(self, change: Change) -> bool:
        if self.process.error is not None:
            self._error = self.process.error
            return True
        fabric = self.process.world.fabric
        if self._scanned != len(fabric.history):
            self._scanned = len(fabric.history)
            self._found = fabric.changed(change.prefix, change.revision) or None
        return self._found is not None

    @property
    def alarm(self) -> float | None:
        """When it stops waiting."""
        return self.effect.until if isinstance(self.effect, Await | Change) else None

    def answer(self) -> None:
        """Carry out a wait that is over."""
        self.resume(self._found, self._error)

    def resume(self, value: Any = None, error: PsBarrierError | BaseException | None = None) -> None:
        """Run on until the next effect that the schedule has a say in."""
        self._found = self._error = None
        try:
            while True:
                effect = self.flow.send(value) if error is None else self.flow.throw(error)
                value, error = None, None
                if type(effect) in (Apply, Await, Change, Revoke):
                    self.effect, self.stirred, self._scanned = effect, True, -1
                    return
                try:
                    value = self.process.perform(effect)
                except PsBarrierError as trouble:
                    error = trouble
        except StopIteration as end:
            self.process.ended(self, end.value)
        except SlotLostError as lost:
            self.process.coroutines.remove(self)
            self.process.lose(lost)
        except PsBarrierError as trouble:
            raise Violation(f"the flow {self} ended with {type(trouble).__name__}: {trouble}") from trouble

    def where(self) -> str:
        """The functions that it is in, and what it waits for."""
        names: list[str] = []
        at: Any = self.flow
        while isinstance(at, GeneratorType):
            names.append(at.gi_code.co_name)
            at = at.gi_yieldfrom
        return f"{self} {'.'.join(names)} {type(self.effect).__name__}"


class Process:
    """One incarnation: what it holds, what it knows, and its flows."""

    def __init__(self, world: World, number: int, role: str, index: int | None, *, force: bool = False) -> None:
        self.world, self.role, self.index, self.force = world, role, index, force
        self.incarnation = f"{role[0]}{'' if index is None else index}.{number}"
        self.alive = True
        self.replaced = False
        self.certain = True
        self.error: PsBarrierError | None = None
        self.standing: Standing | None = None
        self.joined: Joined | None = None
        self.meeting: Meeting | None = None
        self.calls = 0
        self.leases: list[int] = []
        self.run_lease = 0
        self.coroutines: list[Coroutine] = []
        self.channels: dict[View, Channel] = {}

    def __str__(self) -> str:
        return self.incarnation

    @property
    def name(self) -> str:
        """The incarnation that it goes by now."""
        return self.standing.incarnation if self.standing is not None else self.incarnation

    def start(self, name: str, flow: Callable[[Coroutine], Flow[Any]]) -> None:
        coroutine = Coroutine(self, name)
        coroutine.flow = flow(coroutine)
        self.coroutines.append(coroutine)
        coroutine.resume()

    # -- what a session does

    def look(self, check: Callable[[], Any]) -> Any:
        if self.error is not None:
            raise self.error
        return check()

    def stir(self) -> None:
        """Something that a flow may wait for has changed."""
        for coroutine in self.coroutines:
            coroutine.stirred = True

    def entered(self, joined: Joined) -> None:
        """Joined: from now on it leads when nobody else does."""
        self.joined, self.standing = joined, joined.standing
        wall = self.world.wall
        self.start("duty", lambda co: leading(joined.standing, joined.view, co.clock, wall, lambda: self.certain))

    def lose(self, error: PsBarrierError) -> None:
        """The task is lost: whoever waits gets the error, and the lease goes."""
        if self.error is None:
            self.error = error
            self.stir()
            self.world.fabric.expire_later(self.leases)

    def beaten(self, lease: int) -> None:
        """A keep-alive says that the lease is gone."""
        standing = self.standing
        if not self.alive or self.error is not None or standing is None:
            return
        if any(co.stalled > self.world.steps for co in self.coroutines):
            self.world.fabric.late.append((f"{self} beats for lease {lease} at last", lambda: self.beaten(lease)))
            return  # what keeps its main thread busy may keep the whole of it
        if lease == self.run_lease:
            self.start("beat", lambda co: confirm(standing, co.clock, math.inf))
        elif lease in self.leases:
            self.start("beat", lambda co: self._diagnose(standing, co))

    def _diagnose(self, standing: Standing, co: Coroutine) -> Flow[None]:
        with contextlib.suppress(StoreError):
            yield from confirm(standing, co.clock, co.now + SOON)
        self.lose(SlotLostError("its lease is gone", task=str(standing.task), reason="its lease is gone"))

    def apply(self, effect: Apply) -> Any:
        """Decide a transaction, and fold the reply into every view that is followed."""
        reply = self.world.fabric.apply(self, effect.txn)
        for view in self.channels:
            view.fold_reply(effect.txn, reply)
        self.stir()
        return reply

    def perform(self, effect: Effect) -> Any:
        """Effects that no other process can tell the time of."""
        match effect:
            case Grant():
                return self._grant(effect)
            case Follow():
                self._follow(effect.view)
            case Unfollow():
                self._unfollow(effect.view)
            case Keep():
                self.run_lease = effect.lease
                if effect.lease and effect.lease not in self.world.fabric.keyspace.leases:
                    self.world.fabric.late.append((f"{self} beats for the run", lambda: self.beaten(effect.lease)))
            case Silence():
                self.world.fabric.expire_later(self.leases)
            case Pause():
                self.look(lambda: None)
        return None

    def _grant(self, effect: Grant) -> int:
        lease = self.world.fabric.grant(self, effect.ttl)
        if self.world.unlucky():
            raise StoreUnavailableError("the reply to a grant was lost")
        if effect.member:
            self.leases.append(lease)
        return lease

    def _follow(self, view: View) -> None:
        if view not in self.channels:
            if self.world.unlucky():
                raise StoreUnavailableError("the watch was not confirmed")
            self.channels[view] = self.world.fabric.follow(self, view)

    def _unfollow(self, view: View) -> None:
        channel = self.channels.pop(view, None)
        if channel is not None:
            self.world.fabric.channels.remove(channel)

    # -- how it ends

    def ended(self, coroutine: Coroutine, result: Any) -> None:
        """A flow has come to its end; that of the main one is the process's."""
        if coroutine in self.coroutines:
            self.coroutines.remove(coroutine)
        if coroutine.name == "main":
            self.end(result)

    def end(self, verdict: str) -> None:
        """The process is gone, whatever it was doing, and its leases follow."""
        self.alive = False
        for coroutine in self.coroutines:
            self.world.leave_request(coroutine)
            coroutine.flow.close()
        self.coroutines.clear()
        for view in list(self.channels):
            self._unfollow(view)
        self.world.fabric.expire_later(self.leases)
        self.world.process_ended(self, verdict)
