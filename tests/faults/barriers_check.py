"""What a barrier promises: released once, when all parties of exactly that attempt have arrived, or broken; for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from attrs import define, field

from faults.history import Call, History, Process
from faults.ledger import Life, Step, held, place, steps
from faults.verdict import Violation
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord
from psbarrier.protocol.keys import Attempt
from psbarrier.protocol.records import Registration

Which = tuple[Life, str]
"""A barrier of a life of a run."""
Wait = tuple[str, str, int]
"""One `wait()`: the task, its incarnation, and which call of it."""


@define
class Told:
    """What etcd's history says of one barrier."""

    arrivals: dict[str, dict[str, Wait]] = field(factory=lambda: defaultdict(dict))
    released: dict[int, dict[str, Wait]] = field(factory=dict)
    when: dict[int, float] = field(factory=dict)
    broken: set[tuple[int, int]] = field(factory=set)


def barriers(history: History) -> tuple[dict[Which, Told], list[Violation]]:
    """Every barrier, and what is wrong with it in etcd itself."""
    told: dict[Which, Told] = defaultdict(Told)
    wrong: list[Violation] = []
    for step in steps(history):
        later = []
        for change in step.revision.changes:
            where = place(change.key)
            life = step.life(where.root) if where else None
            if where is None or life is None or change.deleted:
                continue
            kind, _, rest = where.rest.partition("/")
            if kind == "arrivals":
                wrong += _arrived(step, told[life, rest.split("/")[0]], change.key, where.root, rest)
            elif kind == "control" and rest.startswith("barriers/"):
                later.append((told[life, rest.removeprefix("barriers/")], change.key, rest.removeprefix("barriers/")))
        for ghost, key, name in later:  # a release stands in the same step as the last arrival
            wrong += _moved(step, ghost, key, history.plan.parties(name))
    return told, wrong


def _arrived(step: Step, ghost: Told, key: str, root: str, rest: str) -> Iterator[Violation]:
    _, attempt, role, index = rest.split("/")
    task, at = f"{role}/{index}", f"revision {step.revision.number}"
    arrival = Arrival.unpack(key, step.after[key].value)
    slot = step.after.get(f"{root}members/{task}")
    if key in step.before:
        yield Violation("arrival", f"{at}: {key} was overwritten")
    if slot is None or Registration.unpack(slot.key, slot.value).incarnation != arrival.incarnation:
        yield Violation("arrival", f"{at}: {arrival.incarnation} arrived for {task}, which it did not hold")
    if f"{root}control/state" in step.before:
        yield Violation("arrival", f"{at}: {task} arrived after the end of the job")
    ghost.arrivals[attempt][task] = (task, arrival.incarnation, arrival.call)


def _moved(step: Step, ghost: Told, key: str, parties: int) -> Iterator[Violation]:
    was = step.before.get(key)
    before = BarrierRecord.unpack(key, was.value) if was else BarrierRecord()
    after = BarrierRecord.unpack(key, step.after[key].value)
    old, new, at = before.attempt, after.attempt, f"revision {step.revision.number}: {key}"
    if new.generation == old.generation:
        if (new.era, new.round) < (old.era, old.round):
            yield Violation("barrier", f"{at} went back from {old} to {new}")
        if after.broken is not None:
            ghost.broken.add((new.generation, new.era))
        return
    if new != Attempt(old.generation + 1, 0, old.era) or after.last != old or after.broken is not None:
        yield Violation("release", f"{at}: {before} became {after}")
    if before.broken is not None or (old.generation, old.era) in ghost.broken:
        yield Violation("outcome", f"{at}: {old} was released, and was broken")
    there = ghost.arrivals[str(old)]
    if len(there) != parties:
        yield Violation("release", f"{at}: {old} was released with {sorted(there)}, {len(there)} of {parties}")
    ghost.released[old.generation] = dict(there)
    ghost.when[old.generation] = step.revision.at


def meetings(history: History) -> Iterator[Violation]:
    """What was told to each `wait()` agrees with what etcd decided, and with what was told to the others."""
    told, wrong = barriers(history)
    yield from wrong
    waits: dict[tuple[Which, Wait], Call] = {}
    all_waits: list[tuple[Process, Which, Wait, Call]] = []
    for process, tenure in held(history):
        for call in process.calls:
            if call.name == "wait":
                which = tenure.life, str(call.args["barrier"])
                wait = tenure.task, tenure.incarnation, int(call.args["number"])
                waits[which, wait] = call
                all_waits.append((process, which, wait, call))
    counted = {
        (which, wait): generation
        for which, ghost in told.items()
        for generation, there in ghost.released.items()
        for wait in there.values()
    }
    orders: dict[tuple[Which, int], dict[int, Wait]] = defaultdict(dict)
    for process, which, wait, call in all_waits:
        generation = counted.get((which, wait))
        who = f"{process.name} wait {wait[2]} at {which[1]!r}"
        yield from _answer(who, call, generation, told[which])
        if generation is not None and call.end is not None and not call.error:
            known = orders[which, generation]
            if (
                not 0 <= int(call.result) < history.plan.parties(which[1])
                or known.setdefault(call.result, wait) != wait
            ):
                yield Violation("order", f"{who} came as number {call.result} in generation {generation}, as {known}")
            for other in told[which].released[generation].values():
                begun = waits.get((which, other))
                if begun is None or begun.begin > call.end:
                    yield Violation("early", f"{who} was released at {call.end:.3f}, and {other} had not arrived")


def _answer(who: str, call: Call, generation: int | None, ghost: Told) -> Iterator[Violation]:
    """Whether one `wait()` was told what is true."""
    if call.end is None:
        return
    if not call.error:
        if call.result != -1 and generation is None:
            yield Violation("told", f"{who} returned {call.result}, and was counted in no generation")
        if call.result == -1 and generation is not None:
            yield Violation("told", f"{who} returned -1, and was counted in generation {generation}")
        if call.result == -1 and int(call.args["generation"]) not in ghost.released:
            yield Violation(
                "told", f"{who} was told that generation {call.args['generation']} is over, which it never was"
            )
    elif generation is not None and {"BarrierBrokenError", "JobOverError"} & set(call.kinds):
        yield Violation("outcome", f"{who} raised {call.error}, and was counted in generation {generation}")


def news(history: History, soon: float) -> Iterator[Violation]:
    """When nothing fails any more, who waits hears within `soon` seconds of a release."""
    told, _ = barriers(history)
    for process, tenure in held(history):
        for call in process.calls:
            if call.name != "wait" or call.end is None or history.calm is None:
                continue
            wait = tenure.task, tenure.incarnation, int(call.args["number"])
            ghost = told[tenure.life, str(call.args["barrier"])]
            for generation, there in ghost.released.items():
                if wait in there.values():
                    due = max(ghost.when[generation], history.calm, call.begin) + soon
                    if call.end > due + process.lateness(due - soon, call.end):
                        yield Violation(
                            "news",
                            f"{process.name} heard of generation {generation} of {call.args['barrier']!r} at "
                            f"{call.end:.3f}, and it was released at {ghost.when[generation]:.3f}",
                        )


def values(history: History, soon: float) -> Iterator[Violation]:
    """When nothing fails any more, who waits for a value hears of it within `soon` seconds."""
    when: dict[tuple[Life, str], float] = {}
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            life = step.life(where.root) if where else None
            if (
                where is not None
                and life is not None
                and where.rest.startswith("control/shared/")
                and not change.deleted
            ):
                when.setdefault((life, where.rest.removeprefix("control/shared/")), step.revision.at)
    for process, tenure in held(history):
        for call in process.calls:
            at = when.get((tenure.life, call.args["key"])) if call.name == "get" else None
            if at is None or history.calm is None:
                continue
            end, due = process.last if call.end is None else call.end, max(at, history.calm, call.begin) + soon
            if end > due + process.lateness(due - soon, end):
                yield Violation("news", f"{process.name} heard at {end:.3f} of {call.args['key']}, shared at {at:.3f}")


def farewells(history: History, soon: float) -> Iterator[Violation]:
    """When nothing fails any more, who waits hears within `soon` seconds that its task is lost."""
    for process, tenure in held(history):
        if tenure.ended is None or history.calm is None:
            continue
        for call in process.calls:
            end = process.last if call.end is None else call.end
            due = max(tenure.ended.at, history.calm) + soon
            if call.begin < due and end > due + process.lateness(due - soon, end):
                yield Violation(
                    "news", f"{process.name} still waited in {call.name} at {end:.3f}, and {tenure} had ended"
                )
