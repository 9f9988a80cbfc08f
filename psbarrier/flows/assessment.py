"""Assessment: what the registrations mean, set against the sealed spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from psbarrier.protocol.records import Registration
from psbarrier.spec import ClusterSpec, MemberSpec, Replicas, Task


@frozen
class Assessment:
    """What the registrations mean, set against the sealed spec."""

    lost: Mapping[Task, str]
    finished: frozenset[Task]
    absent: tuple[Task, ...]
    members: tuple[MemberSpec, ...] | None = None
    """The members of the epoch to seal, if one is due."""
    full: bool = True
    """Whether nobody else need be waited for before that: only an elastic role may have more to come."""


class Assessor:
    """Judges the registrations of a job with these replicas."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        self._tasks = replicas.tasks()
        self._possible = frozenset(self._tasks)
        self._elastic = replicas.elastic_roles

    def assess(
        self, registrations: Mapping[Task, Registration], spec: ClusterSpec | None, known: Mapping[Task, str]
    ) -> Assessment:
        """Who is lost, finished or absent, and whether a new epoch is due. `known` are the incarnations seen last.

        An epoch is due when every task is registered or finished, and somebody's incarnation is not the sealed one. Of an
        elastic role it is enough when its least is there; who was sealed and is not there is lost until the next epoch
        goes on without it.
        """
        finished = frozenset(task for task, registration in registrations.items() if registration.finished)
        sealed = {member.task: member.incarnation for member in spec.members} if spec else {}
        missing = [task for task in self._tasks if task not in registrations]
        lost = {
            task: known.get(task) or sealed.get(task, "")
            for task in missing
            if task in sealed or (task in known and task.role not in self._elastic)
        }
        absent = tuple(task for task in missing if task not in lost)
        if self._elastic:
            absent = tuple(task for task in self.replicas.short_of(registrations) if task not in lost)
            here = self._admitted(registrations, sealed, finished)
            complete, full = not self.replicas.short_of(here), len(here) == len(self._tasks) or set(here) == set(sealed)
        else:
            here, complete, full = self._tasks, not missing, True
        if not complete or {task: registrations[task].incarnation for task in here} == sealed:
            return Assessment(lost, finished, absent)
        members = tuple(
            MemberSpec(task, registrations[task].address, registrations[task].incarnation, registrations[task].meta)
            for task in here
        )
        return Assessment(lost, finished, absent, members, full)

    def _admitted(
        self, registrations: Mapping[Task, Registration], sealed: Mapping[Task, str], finished: frozenset[Task]
    ) -> tuple[Task, ...]:
        """Who may be in the next epoch. Once a task of an elastic role has finished its work is ending, and who came now
        would have it all to itself: then nobody new, but in place of those without whom the role has not its least."""
        closed = {task.role for task in finished} & self._elastic
        here = {task for task in registrations if task in self._possible}
        new = sorted(task for task in here if task.role in closed and task not in sealed)
        return tuple(sorted(here.difference(new).union(self._needed(here.difference(new), new))))

    def _needed(self, here: set[Task], new: list[Task]) -> set[Task]:
        """Of the new ones, in their order, those without whom their role would have fewer than its least."""
        needed: set[Task] = set()
        for task in new:
            there = sum(other.role == task.role for other in here | needed)
            if there < self.replicas.minimum(task.role):
                needed.add(task)
        return needed
