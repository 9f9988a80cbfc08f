"""Themes: what a seed means. Each theme brings about often what would be rare if everything were left to chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from attrs import evolve

from explorer.scenario import GRACE_OF_LOSS, QUIET, Scenario
from psbarrier.policy import Policy
from psbarrier.protocol.records import Config
from psbarrier.spec import Replicas


def scenario_of(seed: int, theme: str | None = None) -> Scenario:
    """The scenario of a seed; the seeds go through the themes in turn unless one is given."""
    return THEMES[theme or ROUND[seed % len(ROUND)]](seed, random.Random(seed))


def jobs(seed: int, rng: random.Random) -> Scenario:
    """Whole jobs of two or three tasks: what those cannot do wrong, ten hardly do."""
    replicas = rng.choice(({"worker": 2}, {"ps": 1, "worker": 2}, {"ps": 1, "worker": 2}, {"worker": 3}))
    policy = Policy(
        loss_grace=GRACE_OF_LOSS,
        max_restarts=rng.choice((0, 1)),
        success=rng.choice((None, None, tuple(replicas))),
    )
    return Scenario(
        seed=seed,
        config=Config(Replicas.of(replicas), policy),
        named_run=rng.random() < 0.8,
        generations=rng.choice((1, 2, 2, 3)),
        roles=rng.choice((("worker",), tuple(sorted(replicas)))),
        steps=rng.choice((60, 120, 200)),
        trouble=rng.choice((0.05, 0.1, 0.2)),
        eager=rng.choice((0.1, 0.4, 0.7)),
        haste=rng.choice((0.02, 0.1)),
        late=rng.choice((0.02, 0.05, 0.15)),
        calm_start=rng.random() < 0.5,
        slow_restarts=rng.random() < 0.2,
        budget=_budget(rng),
    )


def starts(seed: int, rng: random.Random) -> Scenario:
    """Processes that name no run, and perhaps no index, found one together; what the job then does matters little."""
    scenario = jobs(seed, rng)
    return evolve(scenario, named_run=False, named_index=rng.random() < 0.5, generations=0, calm_start=False)


def returns(seed: int, rng: random.Random) -> Scenario:
    """Tasks lose their lease while they wait at a barrier, live on, and meet their successors there."""
    budget = {"expire": rng.choice((1, 2)), "drop": rng.choice((0, 4, 8)), "stall": 2, "crash": rng.choice((0, 1))}
    return evolve(
        jobs(seed, rng),
        config=_config(worker=rng.choice((2, 2, 3))),
        roles=("worker",),
        generations=rng.choice((1, 2)),
        steps=300,
        late=0.05,
        aim=0.9,
        calm_start=True,
        slow_restarts=False,
        on_loss=("wait",),
        budget=QUIET | budget,
    )


def losses(seed: int, rng: random.Random) -> Scenario:
    """A task stays away until its grace is over, while the others go on without it, or the job ends otherwise."""
    budget = {"crash": rng.choice((1, 2)), "long": 9, "abort": rng.choice((0, 1)), "drop": rng.choice((0, 2))}
    return evolve(
        jobs(seed, rng),
        config=_config(ps=1, worker=2),
        roles=("worker",),
        generations=rng.choice((2, 4, 8)),
        steps=200,
        haste=0.2,
        aim=0.0,
        calm_start=True,
        slow_restarts=rng.random() < 0.7,
        budget=QUIET | budget,
    )


def gaps(seed: int, rng: random.Random) -> Scenario:
    """Watches have gaps, most of all while the leadership moves; and processes lose their lease while they join."""
    budget = {"crash": 2, "expire": 2, "resync": 8, "drop": rng.choice((0, 3, 6))}
    return evolve(jobs(seed, rng), config=_config(worker=2), aim=0.0, calm_start=False, budget=QUIET | budget)


def gone(seed: int, rng: random.Random) -> Scenario:
    """The whole run goes from etcd while the job is under way."""
    scenario = jobs(seed, rng)
    return evolve(
        scenario, calm_start=rng.random() < 0.7, slow_restarts=False, budget=scenario.budget | {"run_lease": 1}
    )


def elastic(seed: int, rng: random.Random) -> Scenario:
    """A role whose tasks come and go: epochs change under barriers that have begun, and under the end of the job."""
    replicas = Replicas.of(rng.choice(("worker=1:3", "worker=2:3", "worker=1:2", "ps=1,worker=1:2")))
    scenario = jobs(seed, rng)
    policy = evolve(scenario.config.policy, last_call=rng.choice((0.0, 0.9)), settling=rng.choice((0.0, 0.5)))
    if policy.success is not None:
        policy = evolve(policy, success=replicas.roles)
    return evolve(
        scenario,
        config=Config(replicas, policy),
        roles=rng.choice((("worker",), replicas.roles)),
        calm_start=False,
        budget=scenario.budget if rng.random() < 0.5 else scenario.budget | {"crash": 2, "expire": 1, "stall": 2},
    )


def _config(**replicas: int) -> Config:
    return Config(Replicas.of(replicas), Policy(loss_grace=GRACE_OF_LOSS))


def _budget(rng: random.Random) -> dict[str, int]:
    """How often each kind of trouble may happen; in one schedule of ten, none does."""
    if rng.random() < 0.1:
        return dict(QUIET)
    common = {
        "crash": rng.choice((0, 1, 1, 2)),
        "crash_report": rng.choice((0, 0, 0, 1, 2)),
        "drop": rng.choice((0, 2, 4)),
        "expire": rng.choice((0, 0, 1, 2)),
        "force": rng.choice((0, 0, 1)),
        "interrupt": rng.choice((0, 0, 0, 1)),
        "leave": rng.choice((0, 0, 0, 1)),
        "long": rng.choice((0, 2, 6)),
        "meddle": rng.choice((0, 0, 1, 2)),
        "refuse": rng.choice((0, 0, 0, 1)),
        "resync": rng.choice((0, 0, 2)),
        "stall": rng.choice((0, 1, 3)),
        "timeout": rng.choice((0, 0, 1, 2)),
    }
    final = {name: int(rng.random() < 0.05) for name in ("abort", "fail")}
    return QUIET | common | final


THEMES: Mapping[str, Callable[[int, random.Random], Scenario]] = {
    "jobs": jobs,
    "starts": starts,
    "returns": returns,
    "losses": losses,
    "gaps": gaps,
    "gone": gone,
    "elastic": elastic,
}
ROUND = ("jobs", "starts", "jobs", "returns", "elastic", "losses", "gaps", "elastic", "returns", "gone")
