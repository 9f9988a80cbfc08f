"""What every call promises, and the round as a whole: deadlines, effects that happen once, an end, and nothing left."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator

from faults.history import History
from faults.ledger import place
from faults.verdict import Violation

OVERRUN = 1.0
"""Seconds by which no wait outlives its deadline."""
_CODES = {0, 20, 21, 22, 23, 24, 25, 110, 112, 114, 130, 137, 143, -2, -9, -15}
"""How a process may end: of the program, of `psbarrier run`, and of a signal."""


def deadlines(history: History) -> Iterator[Violation]:
    """No wait outlives its deadline, but for the time in which its process did not run."""
    for process in history.processes:
        for call in process.calls:
            end = process.last if call.end is None else call.end
            if call.limit is None or end <= (due := call.begin + call.limit + OVERRUN):
                continue
            excused = process.lateness(call.begin, end)
            if end > due + excused:
                how = "and it goes on" if call.end is None else f"and it ended {end - due:.2f} s after that"
                yield Violation(
                    "deadline",
                    f"{process.name} {call.name} {call.args} was to end at {due:.3f}, {how} ({excused:.2f} s excused)",
                )


def once(history: History) -> Iterator[Violation]:
    """A user's transaction is applied once if it was confirmed, not at all if it was refused, and never twice."""
    applied: Counter[str] = Counter()
    for revision in history.revisions:
        applied.update(c.value.decode() for c in revision.changes if c.key.startswith("/user/") and not c.deleted)
    for process in history.processes:
        for call in process.calls:
            if call.name != "checkpoint":
                continue
            times = applied[call.args["unique"]]
            expected = {0, 1} if call.end is None or call.error else {int(call.result)}
            if times not in expected:
                how = call.error or call.result
                yield Violation(
                    "once", f"{process.name} {call.args['unique']} ended with {how}, and was applied {times} times"
                )


def errors(history: History) -> Iterator[Violation]:
    """Nothing is raised that was not to be expected, and no process ends by an accident of its own."""
    for process in history.processes:
        for text in process.unexpected:
            yield Violation("error", f"{process.name} raised {text}")
    aborted = {(lasting.slot, lasting.serial, -signal.SIGABRT) for lasting in history.lasting}  # to see their stacks
    for ended in history.ended:
        if ended.code not in _CODES and (ended.slot, ended.serial, ended.code) not in aborted:
            yield Violation("error", f"process {ended.serial} of {ended.slot} ended with {ended.code}")


def ends(history: History) -> Iterator[Violation]:
    """A job that can finish does, and its processes end by themselves."""
    over = {
        change.key.removesuffix("control/state")
        for revision in history.revisions
        for change in revision.changes
        if change.key.endswith("/control/state") and not change.deleted and b'"by":"nobody"' not in change.value
    }
    if not over:
        yield Violation("end", "the job was not over long after the last fault")
    for lasting in history.lasting:
        if not (over and _founded(history, lasting.slot, lasting.serial, over)):
            since = "end of the job" if over else "last fault"
            text = f"{lasting.slot} ({lasting.serial}) still ran long after the {since}"
            yield Violation("end", f"{text}, at\n{lasting.stacks}")


def _founded(history: History, slot: str, serial: int, over: set[str]) -> bool:
    """Whether a process holds a task in a run that is not over: one that names no run, and gets none of the tasks of a job
    before that is over, founds another run, and waits there for the others."""
    places = (
        place(key)
        for process in history.processes
        if (process.slot, process.serial) == (slot, serial)
        for write in process.writes
        for key in write.keys
        if "/members/" in key
    )
    roots = {where.root for where in places if where is not None}
    return not history.plan.named_run and bool(roots) and not roots & over


def leftovers(history: History) -> Iterator[Violation]:
    """Nothing stays behind in etcd."""
    if history.left is None:
        yield Violation("left", "etcd did not answer in the end")
    elif history.left:
        yield Violation("left", f"keys: {list(history.left)}")
    if history.leases:
        yield Violation("left", f"leases: {list(history.leases)}")


def record(history: History) -> Iterator[Violation]:
    """The record itself is complete: without a gap in etcd's history, nothing that the other checks say could be relied on."""
    numbers = [revision.number for revision in history.revisions]
    if not history.complete or numbers != list(range(2, len(numbers) + 2)):
        yield Violation("record", f"the witness has heard {len(numbers)} revisions, of up to {numbers[-1:]}")
