"""Assessment: what the registrations mean, set against the sealed spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from psbarrier.protocol.records import Registration
from psbarrier.spec import ClusterSpec, MemberSpec, Task


@frozen
class Assessment:
    """What the registrations mean, set against the sealed spec."""

    lost: Mapping[Task, str]
    finished: frozenset[Task]
    absent: tuple[Task, ...]
    members: tuple[MemberSpec, ...] | None = None
    """The members of the epoch to seal now, if one is due."""


def assess(
    tasks: tuple[Task, ...],
    registrations: Mapping[Task, Registration],
    spec: ClusterSpec | None,
    known: Mapping[Task, str],
) -> Assessment:
    """Who is lost, finished or absent, and whether a new epoch is due. `known` are the incarnations seen last.

    An epoch is due when every task is registered or finished, and somebody's incarnation is not the sealed one.
    """
    finished = frozenset(task for task, registration in registrations.items() if registration.finished)
    missing = [task for task in tasks if task not in registrations]
    sealed = {member.task: member.incarnation for member in spec.members} if spec else {}
    lost = {task: known.get(task) or sealed.get(task, "") for task in missing if task in sealed or task in known}
    absent = tuple(task for task in missing if task not in lost)
    members = None
    if not missing and any(registrations[task].incarnation != sealed.get(task) for task in tasks):
        members = tuple(
            MemberSpec(task, registrations[task].address, registrations[task].incarnation, registrations[task].meta)
            for task in tasks
        )
    return Assessment(lost, finished, absent, members)
