"""Troubles: what may go wrong in a schedule, beside lost replies. Each says whether it could happen just now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from explorer.process import Interrupted, Process
from explorer.scenario import SECOND
from psbarrier.protocol.transactions import fail
from psbarrier.state import JobState

if TYPE_CHECKING:
    from explorer.world import World


def some(world: World, processes: list[Process]) -> Process | None:
    """One of them; where trouble is aimed there, one that waits at the barrier."""
    if world.random.random() < world.scenario.aim:
        processes = [process for process in processes if process.meeting is not None]
    return world.random.choice(processes) if processes else None


def crash(world: World) -> bool:
    """A process is gone, and half of its requests are still on their way."""
    victim = some(world, world.living())
    if victim is None:
        return False
    world.say("CRASH of", victim)
    victim.end("crashed")
    return True


def expire(world: World) -> bool:
    """A lease ends whose process lives on; a successor is started at once."""
    leases = world.fabric.keyspace.leases
    victim = some(world, [process for process in world.living() if any(lease in leases for lease in process.leases)])
    if victim is None:
        return False
    world.say("the lease of", victim, "ends, and it lives on")
    victim.certain = world.random.random() < 0.5
    for process in world.living():
        if world.random.random() < 0.5:
            keep_busy(world, process)  # which may be why it came to that
    for lease in victim.leases:
        world.fabric.end_lease(lease)
    if not victim.replaced:
        victim.replaced = True
        world.spawn_again(victim)
    return True


def force(world: World) -> bool:
    """A successor is started with takeover="force" while the holder is alive."""
    victim = some(world, [p for p in world.living() if p.standing and p.index is not None and not p.replaced])
    if victim is None:
        return False
    victim.replaced = True
    world.spawn(victim.role, victim.index, force=True)
    return True


def interrupt(world: World) -> bool:
    """Ctrl-C in the main thread of a process that waits at the barrier, whatever it is doing there."""
    victim = some(world, [process for process in world.living() if process.meeting is not None])
    main = next((co for co in victim.coroutines if co.name == "main"), None) if victim else None
    if main is None or victim is None or victim.meeting is None:
        return False
    world.say("INTERRUPT of", main.where())
    world.leave_request(main)
    victim.meeting.limit = main.now + SECOND
    main.resume(None, Interrupted())
    return True


def stall(world: World) -> bool:
    """A main thread does not get on for a while; the others of its process do."""
    victim = some(world, world.living())
    if victim is not None:
        keep_busy(world, victim)
    return victim is not None


def keep_busy(world: World, victim: Process) -> None:
    for co in victim.coroutines:
        if co.name == "main":
            world.say(co, "is busy")
            co.stalled = world.steps + world.random.randint(20, 160)


def resync(world: World) -> bool:
    """A watch has a gap."""
    if not world.fabric.channels:
        return False
    channel = world.random.choice(world.fabric.channels)
    world.say("gap in the watch of", channel.process, "on", channel.view.prefix)
    world.fabric.resync(channel)
    return True


def abort(world: World) -> bool:
    """Somebody outside ends the job."""
    keys = world.current()
    config = world.fabric.keyspace.get(keys.config) if keys is not None else None
    if keys is None or config is None:
        return False
    state = JobState("failed", "the operator", "aborted", 1, world.wall())
    world.say("the job is aborted")
    world.fabric.apply(None, fail(keys, config, state))
    return True


def run_lease(world: World) -> bool:
    """The run is gone from etcd."""
    keys = world.current()
    config = world.fabric.keyspace.get(keys.config) if keys is not None else None
    if config is None or world.over():
        return False
    world.say("the run's lease ends")
    world.renewed = True
    world.fabric.end_lease(config.lease)
    for process in world.living():
        if process.run_lease == config.lease:
            world.fabric.late.append((f"{process} beats for the run", lambda p=process: p.beaten(p.run_lease)))  # type: ignore[misc]
    return True


TROUBLES: Mapping[str, Callable[[World], bool]] = {
    "abort": abort,
    "crash": crash,
    "expire": expire,
    "force": force,
    "interrupt": interrupt,
    "resync": resync,
    "run_lease": run_lease,
    "stall": stall,
}
