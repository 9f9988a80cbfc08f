"""Exploring: play the schedule of a seed to its end, and tell its story when it breaks a promise."""

from __future__ import annotations

from explorer.themes import scenario_of
from explorer.violation import Violation
from explorer.world import World


def explore(seed: int) -> None:
    """Play one schedule. When it breaks a promise, play it again to tell its steps."""
    try:
        play(World(scenario_of(seed)))
    except Exception as error:
        raise Violation(f"{error}\n{story(seed)}") from error


def play(world: World) -> None:
    """Play the schedule of `world`; raises Violation when a promise is broken."""
    world.play()
    check_end(world)


def story(seed: int) -> str:
    """The steps of the schedule of `seed`, one a line, and what comes of them."""
    world = World(scenario_of(seed), log=True)
    try:
        play(world)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the end of the story
        world.say("=>", error)
    steps = "\n".join(f"  {number:4} {step}" for number, step in enumerate(world.log or [], 1))
    return f"seed {seed}: {world.scenario}\n{steps}"


def check_end(world: World) -> None:
    left = [co.where() for process in world.living() for co in process.coroutines]
    if left:
        raise Violation(f"hang: {'; '.join(left)}")
    if not world.over():
        raise Violation("end: all processes have ended, and the job has no terminal state")
    if world.scenario.quiet:
        check_quiet(world)


def check_quiet(world: World) -> None:
    runs, elastic = world.monitor.every, world.monitor.replicas.elastic()
    if elastic and not world.scenario.named_run:
        return  # who comes when the others are done founds the next run
    if len(runs) != 1:
        raise Violation(f"quiet: {len(runs)} runs were founded, and nothing had gone wrong")
    state = runs[0].state
    if (runs[0].epoch != 1 and not elastic) or state is None or state.phase != "succeeded":
        raise Violation(f"quiet: the job {state} with epoch {runs[0].epoch}, and nothing had gone wrong")
    for ghost in world.monitor.barriers.ghosts.values():
        if "broken" in ghost.ends.values() or len(ghost.released) != world.scenario.generations:
            raise Violation(f"quiet: the barrier's attempts ended as {ghost.ends}, and nothing had gone wrong")
