"""Every key that psbarrier writes is built and parsed here, and nowhere else.

    J = <prefix>/<job>          R = J/runs/<run>

All of a job lies below `J/`, with the slash: a prefix permission on it isolates the job, and `job1` never sees `job10`.
Numbers in keys are zero-padded, so that the order of keys is the order of numbers and one range deletes what is older.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import Factory, field, frozen

from psbarrier.errors import MalformedValueError
from psbarrier.spec import Task, check_name
from psbarrier.store.base import prefix_end

_WIDTH = 10
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


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
    """Where a barrier stands: releases so far, the round within that generation, and how often it was reset.

    `text` is how keys name it.
    """

    generation: int = 0
    round: int = 0
    era: int = 0
    text: str = field(init=False, eq=False, repr=False)

    @text.default
    def _written(self) -> str:
        return f"{self.generation:0{_WIDTH}}.{self.round:0{_WIDTH}}.{self.era:0{_WIDTH}}"

    def __str__(self) -> str:
        return self.text

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.generation, self.round, self.era


def _at(path: str) -> Any:
    """The key, or prefix, at `path` in a run: made once, for a barrier needs a dozen."""
    return field(init=False, eq=False, repr=False, default=Factory(lambda keys: f"{keys.root}{path}", takes_self=True))


@frozen
class RunKeys:
    """The keys of one run. `root` ends with a slash."""

    root: str
    config: str = _at("config")
    founded: str = _at("founded")
    """When the run was founded; for people, and read by no member."""
    founder: str = _at("founder")
    """Who is about to found the run; gone once it is founded."""
    control: str = _at("control/")
    """The prefix that every member watches."""
    leader: str = _at("control/leader")
    cluster: str = _at("control/cluster")
    gone: str = _at("control/gone")
    state: str = _at("control/state")
    barriers: str = _at("control/barriers/")
    """The prefix of what all barriers have come to."""
    members: str = _at("members/")
    """The prefix of all registrations."""
    departures: str = _at("departures/")
    """The prefix of what is known about tasks that went away other than by finishing."""
    definitions: str = _at("barriers/")
    """The prefix of all barriers' definitions."""
    all_arrivals: str = _at("arrivals/")
    """The prefix of the arrivals at all barriers."""
    crash_ticks: str = _at("ticks/crashes/")

    def barrier(self, name: str) -> str:
        return f"{self.barriers}{name}"

    def shared(self, name: str) -> str:
        return f"{self.control}shared/{name}"

    def role_members(self, role: str) -> str:
        return f"{self.members}{role}/"

    def member(self, task: Task) -> str:
        return f"{self.role_members(task.role)}{task.index}"

    def departure(self, task: Task) -> str:
        return f"{self.departures}{task.role}/{task.index}"

    def body(self, epoch: int) -> str:
        """The cluster spec itself."""
        return f"{self.root}cluster/{epoch:0{_WIDTH}}"

    def bodies_before(self, epoch: int) -> tuple[str, str]:
        return f"{self.root}cluster/", self.body(epoch)

    def definition(self, barrier: str) -> str:
        return f"{self.definitions}{barrier}"

    def arrivals(self, barrier: str, attempt: Attempt) -> str:
        return f"{self.all_arrivals}{barrier}/{attempt.text}/"

    def arrival(self, barrier: str, attempt: Attempt, task: Task) -> str:
        return f"{self.all_arrivals}{barrier}/{attempt.text}/{task.role}/{task.index}"

    def arrivals_before(self, barrier: str, generation: int) -> tuple[str, str]:
        base = f"{self.all_arrivals}{barrier}/"
        return base, f"{base}{generation:0{_WIDTH}}"

    def barrier_tick(self, barrier: str, attempt: Attempt) -> str:
        return f"{self.root}ticks/barriers/{barrier}/{attempt.text}"

    def barrier_ticks_before(self, barrier: str, generation: int) -> tuple[str, str]:
        base = f"{self.root}ticks/barriers/{barrier}/"
        return base, f"{base}{generation:0{_WIDTH}}"

    def finish_tick(self, role: str) -> str:
        return f"{self.root}ticks/finish/{role}"

    def crash_tick(self, task: Task) -> str:
        return f"{self.crash_ticks}{task.role}/{task.index}"

    def slot_tick(self, role: str) -> str:
        return f"{self.root}ticks/slots/{role}"


def is_index(text: str) -> bool:
    """Whether `text` is how psbarrier writes an index: "7", and not "07", which would be another key for the same task."""
    return _INDEX.fullmatch(text) is not None


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
