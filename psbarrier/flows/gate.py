"""The gate: wait until the cluster is complete, and read the spec that was sealed for it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Protocol

from psbarrier.errors import GateTimeoutError, MalformedValueError, StoreError
from psbarrier.flows.effects import Await, Flow, Progress, Tell, decide, describe_missing, require_held
from psbarrier.flows.patience import Patience
from psbarrier.protocol.keys import below, parse_task
from psbarrier.protocol.records import Departure, Seal, unpack_spec
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.views import ControlView
from psbarrier.spec import ClusterSpec, Task
from psbarrier.state import JobState
from psbarrier.store.base import KV, Range, Txn

GRACE = 0.8
"""Seconds after a deadline in which the error may still be put together; no wait outlives its deadline by more than 1 s."""


READING = 5.0
"""Seconds that a member leaves the reading of a spec to another one of its process; then it reads for itself."""


class Shelf(Protocol):
    """The specs that the members of this process have read, by their SHA-256."""

    def get(self, sha256: str) -> ClusterSpec | None:
        """The spec, if a member has read it."""

    def turn(self, sha256: str) -> bool:
        """Whether the caller is to read it; if not, another one does, and an Await of `get` is answered then."""

    def put(self, sha256: str, spec: ClusterSpec) -> None:
        """The caller has read it."""


def passing(
    me: Standing,
    view: ControlView,
    clock: Callable[[], float],
    until: float | None,
    *,
    known: ClusterSpec | None = None,
    later: bool = False,
    shelf: Shelf | None = None,
) -> Flow[ClusterSpec | JobState]:
    """The newest sealed spec that names this incarnation; or the job's end.

    `known` is what was returned last: it is returned again, without a request, as long as it is the newest, unless a
    `later` one is asked for. Raises GateTimeoutError at `until`, with who is missing and why.
    """
    patience = Patience(clock, until)
    after = known.epoch if known is not None and later else -1
    useless = 0  # the revision of a seal that turned out not to be meant for us

    def look() -> tuple[Seal, int] | JobState | None:
        state, seal = view.state, view.seal
        # A spec sealed before we registered cannot name us, so it is not even read.
        if seal is not None and seal[1] > max(me.token, useless) and seal[0].epoch > after and state.phase != "failed":
            return seal  # even if the others were so fast that the job has succeeded since
        return state if state.over else None

    while True:
        found: tuple[Seal, int] | JobState | None = yield Await(look, patience.next())
        if isinstance(found, JobState):
            return found
        if found is not None:
            seal, mod = found
            if known is not None and seal.epoch == known.epoch:
                return known
            spec = yield from _body(me, seal, clock, patience, shelf)
            mine = spec.find(me.task) if spec is not None else None
            if spec is not None and mine is not None and mine.incarnation == me.incarnation:
                return spec
            useless = max(useless, mod)
        elif patience.over():
            raise (yield from _timed_out(me, view, clock, patience, max(after, 0)))
        elif patience.due():
            yield Tell(_progress(me, view, patience))


def _body(
    me: Standing, seal: Seal, clock: Callable[[], float], patience: Patience, shelf: Shelf | None
) -> Flow[ClusterSpec | None]:
    """The spec that `seal` announces; None when a later one has replaced it."""
    key = me.keys.body(seal.epoch)
    known = None if shelf is None else shelf.get(seal.sha256)
    if shelf is not None and known is None and not shelf.turn(seal.sha256):
        known = yield Await(lambda: shelf.get(seal.sha256), patience.within(READING))
    left = patience.left()
    limit = math.inf if left is None else clock() + left + GRACE
    reads = me.witnesses if known is not None else (*me.witnesses, Range(key))
    reply = yield from decide(me, Txn(then=reads), clock, limit)
    # The seal may be another run's, which was founded where ours had gone, while our registration was still there.
    require_held(me, reply, 0)
    if known is not None:
        return known
    kv = reply.one(-1)
    if kv is None:
        return None
    spec = _checked(key, kv, seal)
    if shelf is not None:
        shelf.put(seal.sha256, spec)
    return spec


def _checked(key: str, kv: KV, seal: Seal) -> ClusterSpec:
    """The spec that was read, if it is the one that was sealed."""
    if hashlib.sha256(kv.value).hexdigest() != seal.sha256:
        raise MalformedValueError(
            f"the cluster spec under {key!r} is not the one that was sealed (its SHA-256 differs): something else writes "
            "below this prefix; end the job and give psbarrier a prefix of its own",
            key=key,
        )
    return unpack_spec(key, kv.value)


def _progress(me: Standing, view: ControlView, patience: Patience) -> Progress:
    """What the leader has published; costs no request, for everyone waits here at once."""
    gone = view.gone
    missing = {str(task): loss.why for task, loss in gone.lost.items()}
    missing |= {str(task): "never registered" for task in gone.absent if str(task) not in missing}
    count = max(gone.absent_count, len(missing))
    what = f"{me.task} at the gate of job {me.job!r}"
    replicas = me.config.replicas
    size = replicas.least_size()
    if view.get(me.keys.gone) is None:
        return Progress(f"{what}, not counted by the leader yet", 1, size, {}, patience.waited(), patience.left())
    closed = {task.role for task in gone.finished} & replicas.elastic_roles
    if me.task.role in closed and me.task not in gone.finished:
        what += f", which nobody new may pass since a {me.task.role} has finished,"
    elif replicas.elastic() and not missing:
        what += " in the last call for more" if view.seal is None else " until the changes have settled"
    return Progress(what, size - count, size, missing, patience.waited(), patience.left())


def _timed_out(
    me: Standing, view: ControlView, clock: Callable[[], float], patience: Patience, after: int
) -> Flow[GateTimeoutError]:
    """The error, with who is missing as etcd knows it now; `after` which epoch one was waited for, or 0."""
    waited = f"{patience.waited():.1f} s"
    try:
        missing = yield from absentees(me, view, clock, clock() + GRACE)
    except StoreError as error:
        failure = GateTimeoutError(
            f"the cluster of job {me.job!r} was not complete after {waited}, and etcd does not say who is missing: {error}",
            missing={},
        )
        failure.__cause__ = error
        return failure
    replicas = me.config.replicas
    size = replicas.least_size()
    if not missing and after:
        return GateTimeoutError(
            f"no epoch of job {me.job!r} after epoch {after} was sealed within {waited}", missing={}
        )
    if not missing and replicas.elastic():
        return GateTimeoutError(
            f"no epoch of job {me.job!r} that names {me.task} was sealed within {waited}, though nobody is missing: wait "
            f"longer than the policy's last_call of {me.config.policy.last_call:g} s; after one of its role has finished "
            "nobody new is let in",
            missing={},
        )
    if not missing:
        return GateTimeoutError(
            f"all {size} tasks of job {me.job!r} are registered after {waited}, but no spec was sealed in that time: "
            "wait longer, or look at what the leader says (psbarrier status)",
            missing={},
        )
    return GateTimeoutError(
        f"the cluster of job {me.job!r} was not complete after {waited}: {size - len(missing)} of {size} tasks are there; "
        f"missing: {describe_missing(missing)}",
        missing=missing,
    )


def absentees(me: Standing, view: ControlView, clock: Callable[[], float], until: float) -> Flow[dict[str, str]]:
    """Every task that is not registered, and why, read from etcd."""
    keys = me.keys
    reads = (Range(*below(keys.members), keys_only=True), Range(*below(keys.departures)))
    reply = yield from decide(me, Txn(then=reads), clock, until)
    present = registered_tasks(keys.members, reply.many(0))
    departures = {kv.key: kv for kv in reply.many(1)}
    missing: dict[str, str] = {}
    for task in me.config.replicas.short_of(present):
        loss = view.gone.lost.get(task)
        departed = departures.get(keys.departure(task))
        missing[str(task)] = loss.why if loss else _why(departed)
    return missing


def registered_tasks(prefix: str, kvs: tuple[KV, ...]) -> set[Task]:
    """The tasks whose keys were read below `prefix`; a key that names none is left out."""
    tasks = set()
    for kv in kvs:
        try:
            tasks.add(parse_task(prefix, kv.key))
        except MalformedValueError:
            continue  # a stranger's key is nobody's registration
    return tasks


def _why(departed: KV | None) -> str:
    if departed is None:
        return "never registered"
    try:
        departure = Departure.unpack(departed.key, departed.value)
    except MalformedValueError as error:
        return f"it went away, and why cannot be read ({error})"
    return f"{departure.kind}: {departure.reason}"
