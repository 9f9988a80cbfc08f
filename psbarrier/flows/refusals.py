"""Why a process may not join: each reason as the error that says it."""

from __future__ import annotations

from collections.abc import Mapping

from psbarrier.errors import AlreadyFinishedError, InvalidArgumentError, JobMismatchError, SlotTakenError
from psbarrier.protocol.records import Config, Registration
from psbarrier.spec import Task
from psbarrier.store.base import KV


def require_same(job: str, ours: Config, config: KV) -> None:
    """Raises JobMismatchError unless the run's `config` is the same as ours."""
    if config.value == ours.pack():
        return
    mine, theirs = ours.as_dict(), Config.unpack(config.key, config.value).as_dict()
    differing = [name for name in mine if mine[name] != theirs[name]]
    raise JobMismatchError(
        f"this process and the running job {job!r} disagree about {' and '.join(differing)}: "
        f"ours is {[mine[name] for name in differing]}, the job's is {[theirs[name] for name in differing]}; "
        "start all processes of a job with the same settings, or end the running job first (psbarrier abort)",
        ours=mine,
        theirs=theirs,
    )


def refuse_finished(job: str, task: Task, member: KV | None) -> None:
    """Raises AlreadyFinishedError if that is what the task's registration says."""
    if member is not None and Registration.unpack(member.key, member.value).finished:
        raise AlreadyFinishedError(
            f"{task} of job {job!r} has already finished in this run, so it is not started again",
            task=str(task),
        )


def taken(job: str, task: Task, holder: Registration, slots: int, when: str) -> SlotTakenError:
    """What to raise when `task`, or every one of `slots` slots, was held at the join deadline, or `when` we last knew."""
    all_of_them = f"all {slots} slots of role {task.role!r} in job {job!r} are taken, {task} for one"
    what = all_of_them if slots > 1 else f"{task} of job {job!r} is taken"
    return SlotTakenError(
        f"{what}: it is held by {holder.holder}, {when}; end that process, or join with takeover='force'",
        task=str(task),
        holder=holder.holder,
    )


def check_slot(config: Config, role: str, index: int | None) -> None:
    """Raises InvalidArgumentError, before any IO, for a task or policy that these replicas do not have."""
    config.replicas.require(Task(role, 0 if index is None else index))
    config.policy.deciding_roles(config.replicas)
    if isinstance(config.policy.loss_grace, Mapping):
        for name in config.policy.loss_grace:
            if name not in config.replicas:
                raise InvalidArgumentError(
                    f"the policy's loss_grace names {name!r}, which is not among {config.replicas}"
                )
