"""Attaching: a child takes up the task that its guardian holds."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from psbarrier.errors import AlreadyAttachedError
from psbarrier.flows.effects import Flow, Follow, decide, require_held, settle
from psbarrier.flows.joining import Joined
from psbarrier.protocol.handover import Handover
from psbarrier.protocol.records import Registration
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.transactions import attach, whole
from psbarrier.protocol.views import ControlView
from psbarrier.store.base import KV, Txn


def handing_over(me: Standing, prefix: str, clock: Callable[[], float], until: float) -> Flow[Handover]:
    """What a process needs to attach to this member's task, from now on until another process has attached to it."""
    reply = yield from decide(me, Txn(then=me.witnesses), clock, until)
    require_held(me, reply, 0)
    member = reply.one(0)
    assert member is not None  # it is held
    return Handover(me, prefix, member.mod)


def attaching(handover: Handover, pid: int, clock: Callable[[], float], until: float) -> Flow[Joined]:
    """Become the one process that uses the guardian's task.

    Raises AlreadyAttachedError when another process was first, SlotLostError or RunGoneError when there is nothing left
    to attach to.
    """
    me = handover.standing
    view = ControlView(me.keys)
    member, known = yield from _following(me, view, clock, until)
    if member.mod != handover.mod and known.attached:
        raise _attached_already(me, known)  # even if that was this very process, in another call
    mine = evolve(known, attached=pid)
    seen = KV(member.key, member.value, member.create, handover.mod, member.version, member.lease)
    reply = yield from decide(me, attach(me, seen, mine), clock, until)
    if not reply.succeeded:
        require_held(me, reply, 0)
        now = reply.one(0)
        holder = Registration.unpack(me.key, now.value) if now else mine
        if holder != mine:
            raise _attached_already(me, holder)
    return Joined(me, view, mine)


def guarding(me: Standing, clock: Callable[[], float], until: float) -> Flow[Joined]:
    """Hold the task for the process that has registered it, which goes on using it.

    Raises SlotLostError or RunGoneError when there is nothing left to hold.
    """
    view = ControlView(me.keys)
    _, known = yield from _following(me, view, clock, until)
    return Joined(me, view, known)


def _following(
    me: Standing, view: ControlView, clock: Callable[[], float], until: float
) -> Flow[tuple[KV, Registration]]:
    """Follow the run of a task that another process has registered; its registration."""
    yield Follow(view, until)
    reply = yield from settle(Txn(then=(*me.witnesses, whole(me.keys.control))), clock, until)
    require_held(me, reply, 0)
    member = reply.one(0)
    assert member is not None  # it is held
    return member, Registration.unpack(member.key, member.value)


def _attached_already(me: Standing, holder: Registration) -> AlreadyAttachedError:
    return AlreadyAttachedError(
        f"{me.task} of job {me.job!r} is used by process {holder.attached} already, and one process of those that "
        "psbarrier run starts may join: let the others ask that one, or join as a task of their own with "
        "PSBARRIER_SESSION unset",
        task=str(me.task),
    )
