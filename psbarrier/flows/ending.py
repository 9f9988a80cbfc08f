"""How a task ends, how a job ends, and how to wait for that; and the small values that members share meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psbarrier.errors import JobTimeoutError, MalformedValueError, ShareTimeoutError, SlotLostError
from psbarrier.flows.effects import (
    Await,
    Flow,
    Progress,
    Tell,
    decide,
    describe_missing,
    require_held,
)
from psbarrier.flows.patience import Patience
from psbarrier.protocol.records import Departure, Registration, Shared, unpack_state
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.transactions import depart, fail_own, finish, share
from psbarrier.protocol.views import ControlView
from psbarrier.state import JobState

LONG = 600.0


def finishing(
    me: Standing, registration: Registration, clock: Callable[[], float], wall: Callable[[], float], until: float
) -> Flow[None]:
    """Finish the task. Finishing again, or a first try whose reply was lost, is success."""
    reply = yield from decide(me, finish(me, registration, wall()), clock, until)
    if reply.succeeded:
        return
    require_held(me, reply, 1)
    # The guard held, so it was the lease that differed: the registration is ours, and finished already.
    member = reply.one(1)
    if member is not None and member.lease != me.run_lease:
        raise MalformedValueError(
            f"{me.task} cannot finish: its registration {me.key!r} was overwritten by another program; end the job, and "
            "give psbarrier a prefix of its own",
            key=me.key,
        )


def failing(me: Standing, state: JobState, clock: Callable[[], float], until: float) -> Flow[JobState]:
    """End the job as failed, unless it is over already; answers with how it ended."""
    while True:
        reply = yield from decide(me, fail_own(me, state), clock, until)
        if reply.succeeded:
            return state
        decided = reply.one(0)
        if decided is not None:
            return unpack_state(decided.key, decided.value)
        require_held(me, reply, 1)


def departing(me: Standing, departure: Departure, clock: Callable[[], float], until: float) -> Flow[bool]:
    """Report how this incarnation went away; False when that is known already, or it no longer mattered."""
    try:
        reply = yield from decide(me, depart(me, departure), clock, until)
    except SlotLostError:
        return False
    return reply.succeeded


def sharing(
    me: Standing, view: ControlView, name: str, value: Any, write: str, clock: Callable[[], float], until: float
) -> Flow[None]:
    """Share `value` as `name`; the last writer wins. `write` tells this call from every other."""
    shared, seen = Shared(value, str(me.task), write), view.mod(me.keys.shared(name))
    while True:
        reply = yield from decide(me, share(me, name, seen, shared), clock, until)
        if reply.succeeded:
            return
        require_held(me, reply, 1)
        kv = reply.one(0)
        if kv is not None and Shared.unpack(kv.key, kv.value).write == write:
            return
        seen = kv.mod if kv else 0


def getting(
    me: Standing, view: ControlView, name: str, clock: Callable[[], float], until: float | None
) -> Flow[Shared]:
    """What is shared as `name`, as soon as it is; raises ShareTimeoutError at `until`, and when the job ends before."""
    patience = Patience(clock, until)
    while True:
        found: Shared | JobState | None = yield Await(
            lambda: view.shared(name) or (view.state if view.state.over else None), patience.next()
        )
        if isinstance(found, JobState):
            raise found.error(me.job)
        if found is not None:
            return found
        if patience.over():
            raise ShareTimeoutError(
                f"nobody in job {me.job!r} had shared {name!r} after {patience.waited():.1f} s: "
                "check the name, and that the task that shares it is running",
                key=name,
            )
        if patience.due():
            what = f"{me.task} waits for the shared value {name!r}"
            yield Tell(Progress(what, 0, 1, {}, patience.waited(), patience.left()))


def watching_job(me: Standing, view: ControlView, clock: Callable[[], float], until: float | None) -> Flow[JobState]:
    """How the job ended, once it has; raises JobTimeoutError at `until` with who has not finished."""
    # A parameter server spends the whole training here, so it says so once in ten minutes, and not as a warning.
    patience = Patience(clock, until, first=LONG, every=LONG)
    while True:
        state: JobState | None = yield Await(lambda: view.state if view.state.over else None, patience.next())
        if state is not None:
            return state
        missing = unfinished(me, view)
        if patience.over():
            raise JobTimeoutError(
                f"job {me.job!r} was not over after {patience.waited():.1f} s; "
                f"not finished: {describe_missing(missing)}",
                missing=missing,
            )
        if patience.due():
            of = len(me.config.replicas.tasks(me.config.policy.deciding_roles(me.config.replicas)))
            what = f"{me.task} waits for the end of job {me.job!r}"
            yield Tell(
                Progress(what, of - len(missing), of, missing, patience.waited(), patience.left(), expected=True)
            )


def unfinished(me: Standing, view: ControlView) -> dict[str, str]:
    """The tasks that the job's success waits for, and what is known of each."""
    gone = view.gone
    roles = me.config.policy.deciding_roles(me.config.replicas)
    missing = {}
    for task in me.config.replicas.tasks(roles):
        if task not in gone.finished:
            loss = gone.lost.get(task)
            missing[str(task)] = loss.why if loss else "running"
    return missing
