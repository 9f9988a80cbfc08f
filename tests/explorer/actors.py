"""Actors: what the simulated processes do with psbarrier, from join() to the end, as the public face would.

Whatever a call tells its caller is told to the monitors too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.process import Coroutine, Interrupted, Process
from explorer.scenario import BARRIER, DEADLINE, JOB, RUN, TTL
from psbarrier.errors import (
    AlreadyFinishedError,
    BarrierBrokenError,
    BarrierOutcomeUnknownError,
    JobOverError,
    SlotLostError,
    SlotTakenError,
    StoreUnavailableError,
)
from psbarrier.flows.effects import Await, Flow
from psbarrier.flows.ending import departing, failing, finishing, sharing, watching_job
from psbarrier.flows.gate import passing
from psbarrier.flows.joining import Joined, Wanted, joining
from psbarrier.flows.meeting import PAST, Meeting
from psbarrier.flows.parties import aborting, defining, resetting
from psbarrier.protocol.barrier_records import Definition
from psbarrier.protocol.party import Party
from psbarrier.protocol.records import Departure, Registration
from psbarrier.state import JobState

SOON = 10.0
JOIN = 30.0


def life(co: Coroutine) -> Flow[str]:
    """One process's life; the answer is how it ended: "done", or why its supervisor starts the task again."""
    process = co.process
    try:
        return (yield from _life(co))
    except SlotLostError as error:
        process.lose(error)
        return "lost"
    except AlreadyFinishedError as error:
        process.world.monitor.calls.refused_as_finished(process, error)
        return "done"
    except JobOverError:
        return "done"
    except (StoreUnavailableError, SlotTakenError) as error:
        return f"gave up: {type(error).__name__}"


def wanted(process: Process) -> Wanted:
    """What the process asks join() for."""
    scenario = process.world.scenario
    registration = Registration(f"h:{len(process.world.processes)}", process.incarnation, "h", 1, TTL)
    return Wanted(
        job=JOB,
        run=RUN if scenario.named_run else None,
        role=process.role,
        index=process.index,
        config=scenario.config,
        registration=registration,
        meta={},
        takeover="force" if process.force else "wait",
    )


def _life(co: Coroutine) -> Flow[str]:
    process, world = co.process, co.process.world
    co.deadline = co.now + JOIN
    joined = yield from joining(wanted(process), co.clock, world.wall, co.deadline)
    co.deadline = None
    process.entered(joined)
    world.monitor.calls.entered(process)
    me, view = joined.standing, joined.view
    spec = yield from passing(me, view, co.clock, None)
    if isinstance(spec, JobState):
        return "done"
    world.monitor.calls.passed(process, spec)
    world.passed()
    if world.spend("meddle", 0.5):
        process.start("side", lambda side: meddle(side, joined))
    if me.task.role in world.scenario.roles:
        ending = yield from _meet_all(co, joined)
        if ending:
            return ending
    if view.state.over:
        return "done"
    return (yield from _finish(co, joined))


def _finish(co: Coroutine, joined: Joined) -> Flow[str]:
    process, world = co.process, co.process.world
    me, view = joined.standing, joined.view
    if world.spend("crash_report", 0.5):
        return (yield from _depart(co, joined, "crashed"))
    if world.spend("leave", 0.5):
        return (yield from _depart(co, joined, "left"))
    if world.spend("fail", 0.5):
        state = JobState("failed", str(me.task), "its own decision", 3, world.wall())
        yield from _insist(lambda: failing(me, state, co.clock, co.now + SOON))
        return "done"
    if me.task.role in world.scenario.config.policy.deciding_roles(world.scenario.config.replicas):
        try:
            yield from finishing(me, view, joined.registration, co.clock, world.wall, co.now + 60.0)
        except StoreUnavailableError:
            return (yield from _depart(co, joined, "crashed"))
        world.monitor.calls.finished(process)
        if world.random.random() < 0.5:
            return "done"
    yield from watching_job(me, view, co.clock, None)
    return "done"


def _insist(flow: Callable[[], Flow[Any]]) -> Flow[Any]:
    """A caller who calls again when etcd was out of reach."""
    while True:
        try:
            return (yield from flow())
        except StoreUnavailableError:
            continue


def _depart(co: Coroutine, joined: Joined, kind: Any) -> Flow[str]:
    departure = Departure(joined.standing.incarnation, kind, "so it goes", 1, co.process.world.wall())
    try:
        told = yield from departing(joined.standing, departure, co.clock, co.now + SOON)
        co.process.world.monitor.calls.departed(co.process, departure, told)
    except StoreUnavailableError:
        pass  # the lease runs out all the same
    yield Await(lambda: True, None)  # its other threads go on for a moment
    return kind  # type: ignore[no-any-return]


def _meet_all(co: Coroutine, joined: Joined) -> Flow[str | None]:
    """Meet the others until the last generation; how the process ended, if it did meanwhile."""
    process, scenario = co.process, co.process.world.scenario
    party = Party(joined.standing, BARRIER, Definition.of(scenario.roles, scenario.config.replicas))
    yield from _insist(lambda: defining(party, co.clock, co.now + SOON))
    on_loss = process.world.random.choice(scenario.on_loss)
    again = process.world.random.random() < 0.5
    while joined.view.barrier(BARRIER).record.attempt.generation < scenario.generations:
        if joined.view.state.over:
            return "done"
        generation = joined.view.barrier(BARRIER).record.attempt.generation if again else None
        try:
            broken = yield from _meet(co, joined, party, on_loss, generation)
        except Interrupted:
            assert process.meeting is not None
            yield from process.meeting.interrupt()
            return (yield from _depart(co, joined, "left"))
        process.meeting = None
        if broken and process.world.random.random() < 0.8:
            yield from _insist(lambda: resetting(party, joined.view, co.clock, co.now + SOON))
    return None


def _meet(co: Coroutine, joined: Joined, party: Party, on_loss: str, generation: int | None) -> Flow[bool]:
    """One `wait()`; whether it found the barrier broken."""
    process, world = co.process, co.process.world
    process.calls += 1
    call = process.calls
    co.deadline = co.now + DEADLINE if world.random.random() < 0.5 else None
    meeting = Meeting(party, joined.view, call, on_loss, co.clock, world.wall, co.deadline)
    process.meeting = meeting
    told = world.monitor.barriers.told
    try:
        order = yield from meeting.run(generation)
    except BarrierBrokenError:
        told(process, call, "broken", meeting.at.generation)
        return True
    except BarrierOutcomeUnknownError:
        return False
    except JobOverError:
        told(process, call, "over", meeting.at.generation)
        raise
    finally:
        co.deadline = None
    if order != PAST:
        told(process, call, "released", meeting.at.generation, order)
    else:
        told(process, call, "past", meeting.at.generation if generation is None else generation)
    return False


def meddle(co: Coroutine, joined: Joined) -> Flow[None]:
    """What a second thread of the process may do meanwhile."""
    world, me, view = co.process.world, joined.standing, joined.view
    party = Party(me, BARRIER, Definition.of(world.scenario.roles, me.config.replicas))
    for number in range(world.random.randint(1, 4)):
        act = world.random.choice(("share", "share", "abort", "reset"))
        limit = co.now + SOON
        try:
            if act == "share":
                write = f"{me.incarnation}/{number}"
                yield from sharing(me, view, "seed", number, write, co.clock, limit)
            elif act == "abort":
                yield from aborting(party, view, co.clock, limit)
            else:
                yield from resetting(party, view, co.clock, limit)
        except StoreUnavailableError:
            continue
