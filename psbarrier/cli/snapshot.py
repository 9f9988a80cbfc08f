"""Snapshot: a run as etcd shows it at one revision, and the values that people ask for. All but `read` is pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import asdict, frozen

from psbarrier.flows.gate import registered_tasks
from psbarrier.protocol.barrier_records import Definition
from psbarrier.protocol.keys import RunKeys, below
from psbarrier.protocol.records import Config, Departure, Registration, pack_indices
from psbarrier.protocol.views import ControlView, Roster
from psbarrier.spec import Replicas, Task, is_name
from psbarrier.state import JobState
from psbarrier.store.base import KV, Range, Store, TxnReply


@frozen
class TaskStatus:
    """One task: its `state` in words, and who holds it if somebody does."""

    task: str
    state: str
    address: str = ""
    incarnation: str = ""
    host: str = ""
    pid: int = 0
    restarts: int = 0


@frozen
class BarrierStatus:
    """One barrier's open generation: who waits at it and who is missing, as ranges of indices by role."""

    name: str
    generation: int
    parties: int
    arrived: int
    waiting: dict[str, str]
    missing: dict[str, str]
    broken: str = ""


@frozen
class Snapshot:
    """A run at one revision. `epoch` is 0 before the first seal; `leader` is empty while nobody leads."""

    job: str
    run: str
    revision: int
    state: JobState
    replicas: str
    epoch: int
    leader: str
    tasks: tuple[TaskStatus, ...]
    barriers: tuple[BarrierStatus, ...]

    def as_dict(self) -> dict[str, Any]:
        """The form of `psbarrier status --json`."""
        return asdict(self)


def read(store: Store, job: str, run: str, keys: RunKeys) -> Snapshot | None:
    """The run as it stands now; None when it does not exist."""
    reply = store.read(*ranges(keys), until=store.clock.now() + 2 * store.request_timeout)
    return build(job, run, keys, reply)


def ranges(keys: RunKeys) -> tuple[Range, ...]:
    """What a snapshot is built from."""
    return (
        Range(keys.config),
        Range(*below(keys.members)),
        Range(*below(keys.control)),
        Range(*below(keys.departures)),
        Range(*below(keys.crash_ticks), keys_only=True),
        Range(*below(keys.definitions)),
        Range(*below(keys.all_arrivals), keys_only=True),
    )


def build(job: str, run: str, keys: RunKeys, reply: TxnReply) -> Snapshot | None:
    """What the reply to `ranges` says; raises MalformedValueError for what another program wrote there."""
    config_kv = reply.one(0)
    if config_kv is None:
        return None
    config = Config.unpack(config_kv.key, config_kv.value)
    roster, control = Roster(keys), ControlView(keys)
    roster.fold_snapshot(reply.many(1), reply.revision)
    control.fold_snapshot(reply.many(2), reply.revision)
    barriers = _barriers(keys, config, control, reply.many(5), reply.many(6))
    crashes = {kv.key: kv.version for kv in reply.many(4)}
    departures = {kv.key: kv for kv in reply.many(3)}
    tasks = tuple(
        _task(
            task,
            roster.registrations.get(task),
            _away(task, control, departures.get(keys.departure(task))),
            _where(task, barriers),
            crashes.get(keys.crash_tick(task), 0),
        )
        for task in _shown(config.replicas, control, roster)
    )
    leader, seal = control.leader, control.seal
    return Snapshot(
        job=job,
        run=run,
        revision=reply.revision,
        state=control.state,
        replicas=str(config.replicas),
        epoch=seal[0].epoch if seal else 0,
        leader=leader.task if leader else "",
        tasks=tasks,
        barriers=tuple(status for status, _ in barriers),
    )


def _shown(replicas: Replicas, control: ControlView, roster: Roster) -> tuple[Task, ...]:
    """Every task of a fixed role; of an elastic one those that are there, were sealed, or are missing to its least."""
    fixed = replicas.tasks(role for role in replicas.roles if role not in replicas.elastic_roles)
    there = {task for task in roster.registrations if task.role in replicas.elastic_roles}
    sealed = control.members(replicas, replicas.elastic_roles)
    return tuple(sorted({*fixed, *there, *sealed, *control.gone.lost, *replicas.short_of(roster.registrations)}))


def _task(task: Task, held: Registration | None, away: str, where: str, restarts: int) -> TaskStatus:
    if held is None:
        return TaskStatus(str(task), away, restarts=restarts)
    state = "finished" if held.finished else where or "registered"
    pid = held.attached or held.pid
    return TaskStatus(str(task), state, held.address, held.incarnation, held.host, pid, restarts)


def _away(task: Task, control: ControlView, departure: KV | None) -> str:
    """Why the task is not registered."""
    loss = control.gone.lost.get(task)
    if loss is not None:
        return loss.why
    if departure is not None:
        known = Departure.unpack(departure.key, departure.value)
        return f"{known.kind}: {known.reason}"
    return "ended with the job" if control.state.over and control.seal else "not registered"


def _barriers(
    keys: RunKeys, config: Config, control: ControlView, definitions: Iterable[KV], arrivals: tuple[KV, ...]
) -> list[tuple[BarrierStatus, frozenset[Task]]]:
    """Each barrier, with who waits at it."""
    found = []
    for kv in definitions:
        name = kv.key.removeprefix(keys.definitions)
        if not is_name(name):  # no barrier, but another program's key
            continue
        definition = Definition.unpack(kv.key, kv.value)
        record = control.barrier(name).record
        prefix = keys.arrivals(name, record.attempt)
        arrived = registered_tasks(prefix, tuple(kv for kv in arrivals if kv.key.startswith(prefix)))
        parties = control.parties(name, config.replicas, definition.roles)
        missing = set(parties) - arrived
        broken = f"{record.broken.reason}, by {record.broken.by}" if record.broken else ""
        status = BarrierStatus(
            name,
            record.attempt.generation,
            len(parties),
            len(arrived),
            pack_indices(arrived),
            pack_indices(missing),
            broken,
        )
        found.append((status, frozenset() if broken else frozenset(arrived)))
    return found


def _where(task: Task, barriers: Iterable[tuple[BarrierStatus, frozenset[Task]]]) -> str:
    for status, waiting in barriers:
        if task in waiting:
            return f'at barrier "{status.name}" gen {status.generation}'
    return ""
