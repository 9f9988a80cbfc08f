"""What a party does at a barrier beside waiting: say what it is, break it, open it again, and see who is missing."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from psbarrier.errors import BarrierMismatchError
from psbarrier.flows.effects import Flow, decide, require_held
from psbarrier.protocol.barrier_records import BarrierRecord, Broken, Definition
from psbarrier.protocol.keys import Attempt
from psbarrier.protocol.party import Party
from psbarrier.protocol.views import ControlView
from psbarrier.spec import Task
from psbarrier.store.base import TxnReply

MAX_NAMED = 100


def missing_parties(party: Party, view: ControlView, arrived: set[Task]) -> dict[str, str]:
    """The parties that are not among `arrived`, and what is known of each; at most the first hundred."""
    gone = view.gone
    members = set(view.members(party.me.config.replicas, party.definition.roles)) if party.elastic else None
    missing: dict[str, str] = {}
    for task in party.tasks(view):
        if task in arrived:
            continue
        if len(missing) == MAX_NAMED:
            break
        if task in gone.lost:
            missing[str(task)] = gone.lost[task].why
        elif task in gone.finished:
            missing[str(task)] = "finished"
        elif view.get(party.me.keys.cluster) is None:
            missing[str(task)] = "not arrived; the cluster is not complete yet"
        elif members is not None and task not in members:
            missing[str(task)] = "no member of the cluster any more"
        else:
            missing[str(task)] = "registered, not arrived"
    return missing


def defining(party: Party, clock: Callable[[], float], until: float) -> Flow[None]:
    """Write the barrier's definition, or check it; raises BarrierMismatchError when others mean other parties."""
    while True:
        reply = yield from decide(party.me, party.define(), clock, until)
        if reply.succeeded:
            return
        known = reply.one(0)
        if known is not None:
            theirs = Definition.unpack(known.key, known.value)
            if theirs == party.definition:
                return
            raise BarrierMismatchError(
                f"barrier {party.name!r} of job {party.me.job!r} already means {_described(theirs)}, and here it is asked "
                f"for with {_described(party.definition)}: use another name for another set",
                ours=party.definition.roles,
                theirs=theirs.roles,
            )
        require_held(party.me, reply, 1)


def _described(definition: Definition) -> str:
    """The roles, and how many tasks they have if that is fixed."""
    tasks = f" ({definition.parties} tasks)" if definition.parties else ""
    return f"the roles {', '.join(definition.roles)}{tasks}"


def aborting(party: Party, view: ControlView, clock: Callable[[], float], until: float) -> Flow[None]:
    """Break whatever generation is open; nothing if it is broken already or the job is over."""
    while True:
        seen = view.barrier(party.name)
        if seen.record.broken is not None or view.state.over:
            return
        broken = evolve(seen.record, broken=Broken(str(party.me.task), "abort", {}))
        reply: TxnReply = yield from decide(party.me, party.change(seen.mod, broken), clock, until)
        if reply.succeeded:
            return
        require_held(party.me, reply, 1)


def resetting(party: Party, view: ControlView, clock: Callable[[], float], until: float) -> Flow[None]:
    """Open the next era of the barrier if it is broken as the view shows it; a second, later reset does nothing."""
    seen = view.barrier(party.name)
    if seen.record.broken is None:
        return
    now = seen.record.attempt
    after = BarrierRecord(Attempt(now.generation, 0, now.era + 1), None, seen.record.last)
    reply: TxnReply = yield from decide(party.me, party.change(seen.mod, after), clock, until)
    if not reply.succeeded:
        require_held(party.me, reply, 1)
