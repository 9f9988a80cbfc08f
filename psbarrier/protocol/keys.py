"""Every key that psbarrier writes is built and parsed here, and nowhere else.

    J = <prefix>/<job>          R = J/runs/<run>

All of a job lies below `J/`, with the slash: a prefix permission on it isolates the job, and `job1` never sees `job10`.
Numbers in keys are zero-padded, so that the order of keys is the order of numbers and one range deletes what is older.
"""

from __future__ import annotations

import re

from attrs import frozen

from psbarrier.errors import MalformedValueError
from psbarrier.spec import Task, check_name
from psbarrier.store.base import prefix_end

_WIDTH = 10


@frozen
class JobKeys:
    """The keys of one job that belong to no run."""

    prefix: str
    job: str

    @property
    def root(self) -> str:
        return f"{self.prefix}/{self.job}/"

    @property
    def current(self) -> str:
        """Names the run that hand-started processes mean."""
        return f"{self.root}current"

    @property
    def runs(self) -> str:
        return f"{self.root}runs/"

    def probe(self, token: str) -> str:
        """What psbarrier doctor writes, and removes, to see whether it may; no member reads it."""
        return f"{self.root}doctor/{token}"

    def run(self, run: str) -> RunKeys:
        """The keys of one run; `run` is checked."""
        check_name("run", run)
        return RunKeys(f"{self.runs}{run}/")


@frozen
class Attempt:
    """Where a barrier stands: releases so far, the round within that generation, and how often it was reset."""

    generation: int = 0
    round: int = 0
    era: int = 0

    def __str__(self) -> str:
        return f"{self.generation:0{_WIDTH}}.{self.round:0{_WIDTH}}.{self.era:0{_WIDTH}}"


@frozen
class RunKeys:
    """The keys of one run. `root` ends with a slash."""

    root: str

    @property
    def config(self) -> str:
        return f"{self.root}config"

    @property
    def founded(self) -> str:
        """When the run was founded; for people, and read by no member."""
        return f"{self.root}founded"

    @property
    def founder(self) -> str:
        """Who is about to found the run; gone once it is founded."""
        return f"{self.root}founder"

    @property
    def control(self) -> str:
        """The prefix that every member watches."""
        return f"{self.root}control/"

    @property
    def leader(self) -> str:
        return f"{self.control}leader"

    @property
    def cluster(self) -> str:
        return f"{self.control}cluster"

    @property
    def gone(self) -> str:
        return f"{self.control}gone"

    @property
    def state(self) -> str:
        return f"{self.control}state"

    @property
    def barriers(self) -> str:
        """The prefix of what all barriers have come to."""
        return f"{self.control}barriers/"

    def barrier(self, name: str) -> str:
        return f"{self.barriers}{name}"

    def shared(self, name: str) -> str:
        return f"{self.control}shared/{name}"

    @property
    def members(self) -> str:
        """The prefix of all registrations."""
        return f"{self.root}members/"

    def role_members(self, role: str) -> str:
        return f"{self.members}{role}/"

    def member(self, task: Task) -> str:
        return f"{self.role_members(task.role)}{task.index}"

    @property
    def departures(self) -> str:
        """The prefix of what is known about tasks that went away other than by finishing."""
        return f"{self.root}departures/"

    def departure(self, task: Task) -> str:
        return f"{self.departures}{task.role}/{task.index}"

    def body(self, epoch: int) -> str:
        """The cluster spec itself."""
        return f"{self.root}cluster/{epoch:0{_WIDTH}}"

    def bodies_before(self, epoch: int) -> tuple[str, str]:
        return f"{self.root}cluster/", self.body(epoch)

    def definition(self, barrier: str) -> str:
        return f"{self.root}barriers/{barrier}"

    @property
    def definitions(self) -> str:
        """The prefix of all barriers' definitions."""
        return self.definition("")

    @property
    def all_arrivals(self) -> str:
        """The prefix of the arrivals at all barriers."""
        return f"{self.root}arrivals/"

    def arrivals(self, barrier: str, attempt: Attempt) -> str:
        return f"{self.root}arrivals/{barrier}/{attempt}/"

    def arrival(self, barrier: str, attempt: Attempt, task: Task) -> str:
        return f"{self.arrivals(barrier, attempt)}{task.role}/{task.index}"

    def arrivals_before(self, barrier: str, generation: int) -> tuple[str, str]:
        base = f"{self.root}arrivals/{barrier}/"
        return base, f"{base}{generation:0{_WIDTH}}"

    def barrier_tick(self, barrier: str, attempt: Attempt) -> str:
        return f"{self.root}ticks/barriers/{barrier}/{attempt}"

    def barrier_ticks_before(self, barrier: str, generation: int) -> tuple[str, str]:
        base = f"{self.root}ticks/barriers/{barrier}/"
        return base, f"{base}{generation:0{_WIDTH}}"

    def finish_tick(self, role: str) -> str:
        return f"{self.root}ticks/finish/{role}"

    @property
    def crash_ticks(self) -> str:
        return f"{self.root}ticks/crashes/"

    def crash_tick(self, task: Task) -> str:
        return f"{self.crash_ticks}{task.role}/{task.index}"

    def slot_tick(self, role: str) -> str:
        return f"{self.root}ticks/slots/{role}"


def is_index(text: str) -> bool:
    """Whether `text` is how psbarrier writes an index: "7", and not "07", which would be another key for the same task."""
    return re.fullmatch(r"0|[1-9][0-9]{0,8}", text) is not None


def below(prefix: str) -> tuple[str, str]:
    """The range of every key that starts with `prefix`."""
    return prefix, prefix_end(prefix)


def parse_task(prefix: str, key: str) -> Task:
    """The task whose key stands directly below `prefix`."""
    try:
        role, index = key.removeprefix(prefix).split("/")
        if not is_index(index):
            raise ValueError(index)
        return Task(role, int(index))
    except ValueError as error:
        raise MalformedValueError(
            f"the key {key!r} does not name a task; it was not written by psbarrier", key=key
        ) from error
