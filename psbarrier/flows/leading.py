"""Leading: who does the leader's duty (psbarrier/flows/duty.py), and when.

It is a duty, not a process: whoever joins first does it, and when its lease goes, another takes over with one
transaction. Two may believe that they lead at once; every write compares the leadership's create revision (its term),
the writer's own token, and the revisions of the keys that it replaces, so only one of them can write.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from psbarrier.errors import (
    MalformedValueError,
    StoreRefusedError,
)
from psbarrier.flows.complaints import Complaints
from psbarrier.flows.duty import Duty
from psbarrier.flows.effects import (
    Await,
    Flow,
    confirm,
    decide,
    require_held,
)
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.transactions import lead
from psbarrier.protocol.views import ControlView

PATIENCE = 6
"""TTLs for which a leader whom etcd refuses, even to resign, goes on beating."""


def leading(
    me: Standing,
    view: ControlView,
    clock: Callable[[], float],
    wall: Callable[[], float],
    certain: Callable[[], bool],
) -> Flow[None]:
    """Lead whenever nobody else does, until the job is over. `certain` says whether our lease surely lives now.

    Raises SlotLostError or RunGoneError when the task is found to be lost.
    """

    vanished = view.vanished
    complaints = Complaints(clock)
    answered = math.inf
    while True:
        duty = None
        try:
            if not (yield Await(partial(_our_turn, me, view, vanished), None)):
                return
            if view.vanished != vanished:
                # Who only waits would never learn that the run has gone, and perhaps been founded anew without it.
                seen = view.vanished
                yield from confirm(me, clock, math.inf)
                vanished = seen
            leader = view.leader
            if leader is None:
                reply = yield from decide(me, lead(me), clock, math.inf)
                answered = math.inf
                if not reply.succeeded:
                    require_held(me, reply, 1)
            elif leader.incarnation == me.incarnation:
                duty = Duty(me, view, clock, wall, certain, complaints)
                duty.answered = min(duty.answered, answered)
                yield from duty.run()
        except (MalformedValueError, StoreRefusedError) as error:
            what = "cannot take over leading" if duty is None else "gives up leading"
            yield from complaints.tell(f"{me.task} {what} job {me.job!r} and will try again: {error}")
            if duty is not None:
                # If we sat on the leadership in silence, no other could lead either. But what etcd refuses now it may
                # accept soon, as while a password is being changed.
                yield from duty.retire(PATIENCE * me.ttl)
                answered = duty.answered
            yield Await(partial(_over, view), clock() + me.ttl / 3)


def _our_turn(me: Standing, view: ControlView, vanished: int) -> bool | None:
    """True once nobody leads, or we do, or the run may have gone; False once the job is over."""
    if view.state.over:
        return False
    if view.vanished != vanished:
        return True
    leader = view.leader
    return True if leader is None or leader.incarnation == me.incarnation else None


def _over(view: ControlView) -> bool | None:
    """True once the job is known to be over."""
    try:
        return True if view.state.over else None
    except MalformedValueError:
        return None
