"""Plan: what happens in one round: the job, its processes, and the faults with their times."""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from attrs import asdict, field, frozen

JOB = "job"
RUN = "run"


@frozen
class Cue:
    """The moment when the process of `slot` begins its `count`-th call of `name`, counted over all its incarnations."""

    slot: str
    name: str
    count: int = 1


@frozen
class Fault:
    """`kind` begins `at` seconds after the round's start (or after its cue) and is undone `lasts` seconds later.

    `target` is a task, or how an etcd is chosen: "leader", "follower", "all" or its number. `size` is what the kind
    makes of it: a delay in seconds. `inner`: it strikes the command of `psbarrier run`, and not its guardian.
    """

    kind: str
    at: float
    lasts: float = 0.0
    target: str = ""
    silent: bool = False
    size: float = 0.0
    inner: bool = False
    cue: Cue | None = None


@frozen
class TaskPlan:
    """One task. `guarded`: run by `psbarrier run`. `term`: what SIGTERM does. `crashes`: at which of its waits, counted
    over all its incarnations, it ends with an error of its own; `aborts`: at which it breaks the barrier. `pace`: how
    much longer it works than others; `linger`: how many seconds it needs before it finishes.
    """

    task: str
    guarded: bool = False
    term: Literal["leave", "die"] = "leave"
    crashes: tuple[int, ...] = ()
    aborts: tuple[int, ...] = ()
    finish: Literal["call", "block"] = "call"
    pace: float = 1.0
    linger: float = 0.0

    @property
    def role(self) -> str:
        return self.task.partition("/")[0]

    @property
    def index(self) -> int:
        return int(self.task.partition("/")[2])


@frozen
class BarrierPlan:
    """A barrier of the tasks of `roles`, who meet there `generations` times."""

    name: str
    roles: tuple[str, ...]
    generations: int
    on_loss: Literal["wait", "break"] = "wait"


@frozen
class Plan:
    """One round. From `calm` on, in seconds after the start, nothing fails any more.

    worker/1 shares `shares` values, for which all others wait. `work` are the seconds between two waits or shares, `wait`
    the deadline of one, `checkpoint` the seconds between two guarded writes of each task, `stagger` those between the
    starts of two. `fleeting`: the run goes by itself soon after its last process.
    """

    seed: int
    round: int
    theme: str
    etcds: int = 3
    replicas: dict[str, int] = field(factory=lambda: {"worker": 2})
    ttl: int = 2
    loss_grace: float = 30.0
    max_restarts: int = 2
    fleeting: bool = False
    named_run: bool = True
    named_index: bool = True
    shares: int = 1
    barriers: tuple[BarrierPlan, ...] = ()
    work: float = 0.2
    wait: float = 15.0
    checkpoint: float = 0.3
    stagger: float = 0.0
    tasks: tuple[TaskPlan, ...] = ()
    faults: tuple[Fault, ...] = ()
    calm: float = 6.0
    flaw: str = ""

    def task(self, slot: str) -> TaskPlan:
        return next(task for task in self.tasks if task.task == slot)

    def parties(self, barrier: str) -> int:
        """How many tasks meet at the barrier."""
        roles = next(plan.roles for plan in self.barriers if plan.name == barrier)
        return sum(self.replicas[role] for role in roles)

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def loads(cls, text: str) -> Self:
        fields: dict[str, Any] = json.loads(text)
        fields["barriers"] = tuple(
            BarrierPlan(**{**barrier, "roles": tuple(barrier["roles"])}) for barrier in fields["barriers"]
        )
        fields["tasks"] = tuple(
            TaskPlan(**{**task, "crashes": tuple(task["crashes"]), "aborts": tuple(task.get("aborts", ()))})
            for task in fields["tasks"]
        )
        fields["faults"] = tuple(
            Fault(**{**fault, "cue": Cue(**fault["cue"]) if fault["cue"] else None}) for fault in fields["faults"]
        )
        return cls(**fields)
