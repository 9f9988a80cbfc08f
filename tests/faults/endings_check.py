"""What the end of a task, of a job and of an epoch promises."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator

from faults.history import History
from faults.ledger import Life, Step, held, place, steps
from faults.verdict import Violation
from psbarrier.protocol.records import Departure, Registration, Seal, unpack_spec, unpack_state
from psbarrier.spec import ClusterSpec
from psbarrier.state import JobState


def states(history: History) -> Iterator[Violation]:
    """A job's end is written once, never changes, and is true: all have finished, or one crashed too often or stayed away."""
    ends: dict[Life, JobState] = {}
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            life = step.life(where.root) if where else None
            if where is None or life is None or where.rest != "control/state" or change.deleted:
                continue
            at, state = f"revision {step.revision.number}", unpack_state(change.key, change.value)
            if life in ends:
                yield Violation("state", f"{at}: the job {ends[life]}, and then {state}")
            ends[life] = state
            if state.phase == "succeeded":
                missing = [task for task in _deciding(history) if not _finished(step, where.root, task)]
                if missing:
                    yield Violation("state", f"{at}: the job succeeded, and {missing} had not finished")
            if "did not come back" in state.reason and f"{where.root}members/{state.by}" in step.before:
                yield Violation("grace", f"{at}: {state}, and {state.by} is registered")
    for process, tenure in held(history):
        for call in process.calls:
            if call.name == "wait_job" and call.end is not None and not call.error:
                known = ends.get(tenure.life)
                if known is None or known.phase != call.result:
                    yield Violation("state", f"{process.name} was told {call.result}, and the job {known}")


def _deciding(history: History) -> list[str]:
    return [f"worker/{index}" for index in range(history.plan.replicas["worker"])]


def _finished(step: Step, root: str, task: str) -> bool:
    slot = step.after.get(f"{root}members/{task}")
    return slot is not None and bool(Registration.unpack(slot.key, slot.value).finished)


def counts(history: History) -> Iterator[Violation]:
    """A task that has finished stays so and counts once; a crash counts once, and the first too many ends the job."""
    finished: dict[Life, set[str]] = defaultdict(set)
    crashed: dict[tuple[Life, str], list[str]] = defaultdict(list)
    for step in steps(history):
        at = f"revision {step.revision.number}"
        ticks: list[tuple[Life, str, str, int]] = []
        for change in step.revision.changes:
            where = place(change.key)
            life = step.life(where.root) if where else None
            if where is None or life is None or change.deleted:
                continue
            kind, _, rest = where.rest.partition("/")
            if kind == "members" and Registration.unpack(change.key, change.value).finished:
                if rest in finished[life]:
                    yield Violation("finish", f"{at}: {rest} finished twice")
                finished[life].add(rest)
            elif kind == "departures":
                departure = Departure.unpack(change.key, change.value)
                if rest in finished[life]:
                    yield Violation("finish", f"{at}: {rest} had finished, and {departure}")
                if departure.kind == "crashed":
                    if departure.incarnation in crashed[life, rest]:
                        yield Violation("crash", f"{at}: the end of {departure.incarnation} was reported twice")
                    crashed[life, rest].append(departure.incarnation)
            elif kind == "ticks":
                ticks.append((life, where.root, rest, change.version))
        for life, root, rest, version in ticks:
            yield from _counted(history, step, life, root, rest, version, finished, crashed)


def _counted(
    history: History,
    step: Step,
    life: Life,
    root: str,
    rest: str,
    version: int,
    finished: dict[Life, set[str]],
    crashed: dict[tuple[Life, str], list[str]],
) -> Iterator[Violation]:
    at, (kind, _, name) = f"revision {step.revision.number}", rest.partition("/")
    if kind == "finish":
        count = sum(task.partition("/")[0] == name for task in finished[life])
        if version != count:
            yield Violation("finish", f"{at}: {version} are counted of {name}, and {count} have finished")
    elif kind == "crashes":
        if version != len(crashed[life, name]):
            yield Violation(
                "crash", f"{at}: {version} are counted of {name}, and there were {len(crashed[life, name])}"
            )
        if version > history.plan.max_restarts and f"{root}control/state" not in step.after:
            yield Violation("crash", f"{at}: crash {version} of {name}, and the job goes on")
        now, before = step.after.get(f"{root}control/state"), step.before.get(f"{root}control/state")
        if now is not None and before is None and version != history.plan.max_restarts + 1:
            yield Violation("crash", f"{at}: crash {version} of {name} ended the job")


def runs(history: History) -> Iterator[Violation]:
    """A run lives as long as one of its members does."""
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            if where is None or where.rest != "config" or not change.deleted:
                continue
            config = step.before[change.key]
            if any(lease == config.lease for lease, _ in history.revokes) or step.revision.at > history.over > 0:
                continue
            alive = [
                key
                for key, kv in step.after.items()
                if key.startswith(f"{where.root}members/") and not Registration.unpack(key, kv.value).finished
            ]
            if alive:
                yield Violation("run", f"revision {step.revision.number}: the run went, and {alive} were registered")


def finishes(history: History) -> Iterator[Violation]:
    """Who was told that its task is finished has finished it, or the job had succeeded before."""
    done: dict[tuple[Life, str], float] = {}
    won: dict[Life, float] = {}
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            life = step.life(where.root) if where else None
            if where is None or life is None or change.deleted:
                continue
            if where.rest.startswith("members/") and Registration.unpack(change.key, change.value).finished:
                done[life, where.rest.removeprefix("members/")] = step.revision.at
            elif where.rest == "control/state" and unpack_state(change.key, change.value).phase == "succeeded":
                won[life] = step.revision.at
    for process, tenure in held(history):
        for call in process.calls:
            ok = (
                call.end is not None
                and not call.error
                and (call.name == "finish" or (call.name == "exit" and not call.args["why"]))
            )
            if ok and (tenure.life, tenure.task) not in done and tenure.life not in won:
                yield Violation("finish", f"{process.name} was told that it has finished, and has not")


def epochs(history: History) -> Iterator[Violation]:
    """Epochs grow by one, and each is the same for all, and names whoever it is given to."""
    newest: dict[Life, int] = {}
    specs: dict[tuple[Life, int], ClusterSpec] = {}
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            life = step.life(where.root) if where else None
            if where is None or life is None or where.rest != "control/cluster" or change.deleted:
                continue
            at, seal = f"revision {step.revision.number}", Seal.unpack(change.key, change.value)
            if seal.epoch != newest.get(life, 0) + 1:
                yield Violation("epoch", f"{at}: {seal.epoch} was sealed after {newest.get(life, 0)}")
            newest[life] = seal.epoch
            body = step.after.get(f"{where.root}cluster/{seal.epoch:010}")
            if body is None or hashlib.sha256(body.value).hexdigest() != seal.sha256:
                yield Violation("epoch", f"{at}: the seal of {seal.epoch} is not that of its spec")
                continue
            specs[life, seal.epoch] = unpack_spec(body.key, body.value)
    for process, tenure in held(history):
        for call in process.calls:
            if call.name not in ("cluster", "changes") or call.end is None or call.error:
                continue
            spec = specs.get((tenure.life, call.result["epoch"]))
            if spec is None or digest(spec) != call.result["digest"]:
                yield Violation("epoch", f"{process.name} got {call.result}, and {spec} was sealed")
            elif not any(m.incarnation == tenure.incarnation and str(m.task) == tenure.task for m in spec.members):
                yield Violation("gate", f"{process.name} passed with {spec}, which does not name {tenure.incarnation}")


def digest(spec: ClusterSpec) -> str:
    """What tells two specs apart in few characters."""
    text = repr([(str(member.task), member.address, member.incarnation) for member in spec.members])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
