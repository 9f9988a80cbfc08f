"""Rendezvous: all members of one epoch meet, and all know that they mean the same one.

The gate tells each member of every epoch, but nobody which of them the others have got to. Whoever starts something that
all must start together, as a collective does, needs an epoch that each of its members has taken up. If it is replaced
while they meet, they go on to the next.
"""

from __future__ import annotations

from collections.abc import Callable

from psbarrier.errors import BarrierBrokenError, BarrierTimeoutError
from psbarrier.flows.effects import Flow
from psbarrier.flows.gate import passing
from psbarrier.flows.meeting import Meeting
from psbarrier.flows.parties import defining
from psbarrier.protocol.barrier_records import Definition
from psbarrier.protocol.party import Party
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.views import ControlView
from psbarrier.spec import ClusterSpec
from psbarrier.state import JobState

PATIENCE = 60.0
"""Seconds that defining a meeting may take, for a caller without a deadline."""


def rendezvous(
    me: Standing,
    view: ControlView,
    clock: Callable[[], float],
    wall: Callable[[], float],
    until: float | None,
    after: ClusterSpec | None,
) -> Flow[ClusterSpec | JobState]:
    """An epoch later than `after` for which each of its members has called this; or the job's end.

    Raises GateTimeoutError or BarrierTimeoutError at `until`, BarrierBrokenError when a member has finished.
    """
    known = after
    while True:
        spec = yield from passing(me, view, clock, until, known=known, later=True)
        if isinstance(spec, JobState):
            return spec
        roles = me.config.replicas.roles
        party = Party(me, f"rendezvous.{spec.epoch}", Definition.of(roles, me.config.replicas), spec.epoch)
        yield from defining(party, clock, clock() + PATIENCE if until is None else until)
        try:
            yield from Meeting(party, view, spec.epoch, "wait", clock, wall, until).run(None)
            return spec
        except BarrierTimeoutError:
            raise
        except BarrierBrokenError as error:
            if error.reason == "finished":
                raise
        known = spec
