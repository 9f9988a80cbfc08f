"""How a task ends, how a job ends, and how to wait for that; and the small values that members share meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psbarrier.errors import (
    InvalidArgumentError,
    JobTimeoutError,
    MalformedValueError,
    ShareTimeoutError,
    SlotLostError,
)
from psbarrier.flows.effects import (
    Await,
    Flow,
    Progress,
    Tell,
    confirm,
    decide,
    describe_missing,
    require_held,
)
from psbarrier.flows.patience import Patience
from psbarrier.protocol.records import Departure, Registration, Shared, unpack_state
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.transactions import depart, fail_own, finish, share
from psbarrier.protocol.views import ControlView
from psbarrier.spec import Task
from psbarrier.state import JobState

LONG = 600.0


def finishing(
    me: Standing,
    view: ControlView,
    registration: Registration,
    clock: Callable[[], float],
    wall: Callable[[], float],
    until: float,
) -> Flow[None]:
    """Finish the task. Finishing again, or a first try whose reply was lost, is success.

    Raises InvalidArgumentError for a task of a job with an elastic role that no epoch has named yet.
    """
    roles = me.config.policy.deciding_roles(me.config.replicas)
    counted = me.task.role in roles and me.config.replicas.elastic(roles)
    while True:
        if counted and not view.names(me):
            yield from confirm(me, clock, until)
            # It would count among those who have finished, and not among those who must.
            raise InvalidArgumentError(
                f"{me.task} cannot finish before it has begun: job {me.job!r} has an elastic role, and no epoch names this "
                "task yet; wait for cluster() first, or close the member to leave"
            )
        seal = view.seal if counted else None
        reply = yield from decide(me, finish(me, registration, wall(), seal), clock, until)
        if reply.succeeded:
            return
        require_held(me, reply, 1)
        member = reply.one(1)
        if member is None or member.lease == me.run_lease:
            return  # we hold it, and it is finished already
        if seal is None or view.seal == seal:
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
            of = len(deciding(me, view))
            what = f"{me.task} waits for the end of job {me.job!r}"
            yield Tell(
                Progress(what, of - len(missing), of, missing, patience.waited(), patience.left(), expected=True)
            )


def unfinished(me: Standing, view: ControlView) -> dict[str, str]:
    """The tasks that the job's success waits for, and what is known of each."""
    gone = view.gone
    missing = {}
    for task in deciding(me, view):
        if task not in gone.finished:
            loss = gone.lost.get(task)
            missing[str(task)] = loss.why if loss else "running"
    return missing


def deciding(me: Standing, view: ControlView) -> tuple[Task, ...]:
    """The tasks whose finishing makes the job succeed, as far as is known now."""
    return view.members(me.config.replicas, me.config.policy.deciding_roles(me.config.replicas))
