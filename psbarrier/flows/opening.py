"""Opening: whom a generation of a barrier counts, where one of its roles is elastic.

The first party that comes writes down who they are: the tasks of the barrier's roles in the newest epoch. They stay so
until the generation is released or broken, whoever joins or leaves meanwhile; for all of them must mean the same number.
A member that joined later waits for the end of the generation that does not count it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import evolve

from psbarrier.errors import BarrierTimeoutError
from psbarrier.flows.effects import Await, Flow, Progress, Tell, confirm, decide, require_held
from psbarrier.flows.patience import Patience
from psbarrier.protocol.party import Party
from psbarrier.protocol.views import ControlView, Seen
from psbarrier.state import JobState


def opening(
    party: Party, view: ControlView, clock: Callable[[], float], limit: float, patience: Patience
) -> Flow[Seen]:
    """Wait until the open generation counts this party, or is broken or over; answers with how the barrier stands then.

    Raises BarrierTimeoutError when `patience` is over, which breaks nothing, for nobody waits for us; JobOverError and
    JobFailedError when the job is over; whatever `decide` raises, after `limit` for want of etcd.
    """
    vanished, generation = view.vanished, view.barrier(party.name).record.attempt.generation
    while True:
        look = partial(_look, party, view, vanished, generation)
        found: Seen | JobState | None = yield Await(look, patience.next())
        if isinstance(found, JobState):
            raise found.error(party.me.job)
        if view.vanished != vanished:
            vanished = view.vanished
            yield from confirm(party.me, clock, limit)
        elif found is not None and (_settled(found, generation) or party.superseded(view)):
            return found
        elif found is not None:
            yield from _fix(party, view, clock, limit)
        elif patience.over():
            raise _timed_out(party, view, patience)
        elif patience.due():
            what = f"{party.me.task} {_waits_for(party, view)}"
            yield Tell(Progress(what, 0, 1, {}, patience.waited(), patience.left()))


def _settled(seen: Seen, generation: int) -> bool:
    """Whether there is nothing to be written down before anybody can arrive at `generation`."""
    record = seen.record
    return record.broken is not None or record.parties is not None or record.attempt.generation > generation


def _look(party: Party, view: ControlView, vanished: int, generation: int) -> Seen | JobState | None:
    """How the barrier stands, once that is of use to us; the job's end; None while there is nothing to do but wait."""
    seen = view.barrier(party.name)
    record = seen.record
    if view.vanished != vanished or record.broken is not None or record.attempt.generation > generation:
        return seen
    if view.ended:
        return view.state
    if party.superseded(view):
        return seen
    ours = view.names(party.me) if record.parties is None else party.me.task in record.parties
    return seen if ours else None


def _fix(party: Party, view: ControlView, clock: Callable[[], float], limit: float) -> Flow[None]:
    """Write down whom the generation counts, unless somebody has, or another epoch was sealed: the view shows which."""
    seen, seal = view.barrier(party.name), view.seal
    if seal is None or seal[0].tasks is None:
        return
    roles = party.definition.roles
    parties = frozenset(task for task in seal[0].tasks if task.role in roles)
    record = evolve(seen.record, epoch=seal[0].epoch, parties=parties)
    reply = yield from decide(party.me, party.count(seen.mod, seal[1], record), clock, limit)
    if not reply.succeeded:
        require_held(party.me, reply, 1)


def _waits_for(party: Party, view: ControlView) -> str:
    name = f"barrier {party.name!r} of job {party.me.job!r}"
    at = view.barrier(party.name).record
    if at.parties is None:
        return f"waits at {name} for an epoch that names it"
    return (
        f"waits for the end of generation {at.attempt.generation} of {name}, which began in epoch {at.epoch} and counts "
        f"{len(at.parties)} others"
    )


def _timed_out(party: Party, view: ControlView, patience: Patience) -> BarrierTimeoutError:
    at = view.barrier(party.name).record.attempt
    return BarrierTimeoutError(
        f"{party.me.task} {_waits_for(party, view)}; that was not so after {patience.waited():.1f} s. It breaks nothing for the "
        "others; wait again, for longer",
        barrier=party.name,
        generation=at.generation,
        by=str(party.me.task),
        reason="timeout",
        missing={},
    )
