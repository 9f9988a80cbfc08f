"""Drawing: the plan of a round, drawn from its seed and number and from nothing else."""

from __future__ import annotations

import random
from typing import Literal

from faults.plan import BarrierPlan, Fault, Plan, TaskPlan

ETCD_FAULTS = {
    "kill": 3,
    "stop": 1,
    "pause": 3,
    "partition": 4,
    "slow": 2,
    "isolate": 2,
    "compact": 2,
    "defragment": 1,
}
"""What befalls etcd, and how often it is drawn in comparison."""
TASK_FAULTS = {
    "sigkill": 4,
    "sigterm": 2,
    "sigint": 1,
    "sigstop": 3,
    "cut": 4,
    "delay": 2,
    "usurp": 2,
    "revoke": 2,
}
"""What befalls a member."""
ALONE = {"kill", "stop", "pause", "compact", "defragment"}
"""What can befall an etcd that has no peers."""


def plan_of(seed: int, number: int) -> Plan:
    """The plan of one round."""
    rng = random.Random(f"psbarrier faults {seed} {number}")
    replicas = rng.choice(({"worker": 2}, {"worker": 3}, {"ps": 1, "worker": 2}, {"ps": 1, "worker": 3}))
    roles = tuple(sorted(replicas))
    ttl = rng.choice((2, 2, 3, 4))
    theme = rng.choice(("etcd", "etcd", "tasks", "tasks", "both", "both", "both", "storm", "storm", "storm", "calm"))
    if number % 40 == 39:
        theme = "gone"
    calm = round(rng.uniform(5.0, 8.0) if theme != "storm" else rng.uniform(8.0, 11.0), 2)
    etcds = 1 if rng.random() < 0.2 else 3
    named_run = rng.random() < 0.85
    tasks = tuple(_task(rng, f"{role}/{index}") for role in roles for index in range(replicas[role]))
    work = round(rng.uniform(0.15, 0.7), 2)
    generations = round(rng.uniform(0.6, 1.1) * calm / (work + 0.1))  # so that faults find it at work
    barriers = [BarrierPlan("epoch", ("worker",), generations, _on_loss(rng))]
    if rng.random() < 0.5:
        barriers.insert(0, BarrierPlan("warm", roles, rng.randint(1, 3), "wait"))
    return Plan(
        seed=seed,
        round=number,
        theme=theme,
        etcds=etcds,
        replicas=dict(replicas),
        ttl=ttl,
        loss_grace=rng.choice((30.0, 30.0, 30.0, 2.0)),
        max_restarts=rng.choice((0, 2, 5, 5)),
        fleeting=rng.random() < 0.1,
        named_run=named_run,
        named_index=rng.random() < (0.9 if named_run else 0.6),
        shares=rng.choice((0, 1, 3)),
        barriers=tuple(barriers),
        work=work,
        wait=rng.choice((3.0, 15.0, 15.0, 30.0)),
        tasks=tasks,
        faults=_faults(rng, theme, etcds, ttl, calm, tasks),
        calm=calm,
    )


def _on_loss(rng: random.Random) -> Literal["wait", "break"]:
    return "break" if rng.random() < 0.2 else "wait"


def _task(rng: random.Random, task: str) -> TaskPlan:
    crashes = (rng.randint(1, 6),) if rng.random() < 0.12 else ()
    return TaskPlan(
        task=task,
        guarded=rng.random() < 0.25,
        term=rng.choice(("leave", "die")),
        crashes=crashes,
        aborts=(rng.randint(2, 8),) if rng.random() < 0.1 else (),
        finish=rng.choice(("call", "block")),
        linger=rng.choice((0.0, 0.0, 0.4)),
    )


def _faults(
    rng: random.Random, theme: str, etcds: int, ttl: int, calm: float, tasks: tuple[TaskPlan, ...]
) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    if theme in ("etcd", "both", "storm"):
        faults += _of_etcd(rng, etcds, calm, 5 if theme == "storm" else 3)
    if theme in ("tasks", "both", "gone"):
        faults += [_of_task(rng, ttl, calm, tasks) for _ in range(rng.choice((1, 2, 2, 3)))]
    if theme == "storm":
        faults += [_of_task(rng, ttl, calm, tasks) for _ in range(rng.choice((4, 5, 6)))]
    if theme == "gone":
        faults.append(Fault("revoke-run", round(rng.uniform(2.0, calm - 1), 2)))
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _of_etcd(rng: random.Random, etcds: int, calm: float, most: int) -> list[Fault]:
    """One after the other, for what befalls etcd concerns all of it."""
    faults: list[Fault] = []
    at = rng.uniform(0.8, 3.0)
    kinds = {kind: weight for kind, weight in ETCD_FAULTS.items() if etcds > 1 or kind in ALONE}
    while at < calm - 0.7 and len(faults) < most:
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        lasts = 0.0 if kind in ("compact", "defragment") else min(rng.choice((0.5, 1.5, 3.0, 4.5)), calm - at)
        target = rng.choice(("leader", "leader", "follower", "all")) if etcds > 1 else "all"
        size = round(rng.uniform(0.05, 0.4), 2) if kind == "slow" else 0.0
        faults.append(Fault(kind, round(at, 2), round(lasts, 2), target, rng.random() < 0.5, size))
        at += lasts + rng.uniform(0.3, 1.5)
    return faults


def _of_task(rng: random.Random, ttl: int, calm: float, tasks: tuple[TaskPlan, ...]) -> Fault:
    kind = rng.choices(list(TASK_FAULTS), list(TASK_FAULTS.values()))[0]
    at = round(rng.uniform(1.0, calm - 0.5), 2)
    lasts = 0.0
    if kind in ("sigstop", "cut"):
        lasts = rng.choice((0.5, 1.5, ttl + 1.5))
    elif kind == "delay":
        lasts = rng.choice((1.0, 3.0))
    size = round(rng.uniform(0.05, 0.3), 2) if kind == "delay" else 0.0
    return Fault(kind, at, lasts, rng.choice(tasks).task, rng.random() < 0.5, size, inner=rng.random() < 0.6)
