"""When an epoch of an elastic job is due, and when it may be sealed: pure lists of what happens."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from psbarrier.flows.assessment import Assessment, Assessor
from psbarrier.flows.ripening import Ripening
from psbarrier.policy import Policy
from psbarrier.protocol.records import Registration
from psbarrier.spec import ClusterSpec, MemberSpec, Replicas, Task


def workers(*indices: int) -> list[Task]:
    return [Task("worker", index) for index in indices]


def registrations(tasks: Iterable[Task], finished: Iterable[Task] = (), name: str = "a") -> dict[Task, Registration]:
    done = set(finished)
    return {task: Registration("h:1", f"{name}{task.index}", finished=float(task in done)) for task in tasks}


def spec(*indices: int) -> ClusterSpec:
    return ClusterSpec("j", "r", 1, tuple(MemberSpec(task, "h:1", f"a{task.index}") for task in workers(*indices)))


def due(view: Assessment) -> list[int] | None:
    return None if view.members is None else [member.task.index for member in view.members]


@pytest.mark.parametrize(
    ("there", "sealed", "finished", "expected"),
    [
        ([], None, [], None),
        ([3], None, [], None),
        ([1, 3], None, [], [1, 3]),
        ([0, 1, 2, 3], None, [], [0, 1, 2, 3]),
        ([0, 1, 2], [0, 1, 2], [], None),
        ([0, 2], [0, 1, 2], [], [0, 2]),
        ([0], [0, 1, 2], [], None),
        ([0, 1, 2, 3], [0, 1], [], [0, 1, 2, 3]),
        # Once one has finished nobody new is let in ...
        ([0, 1, 2], [0, 1], [0], None),
        ([0, 1, 2, 3], [0, 1, 2], [0], None),
        ([0, 2, 3], [0, 1, 2], [0], [0, 2]),
        # ... but for those without whom there would be too few.
        ([0, 2], [0, 1], [0], [0, 2]),
        ([0, 2, 3], [0, 1], [0], [0, 2]),
    ],
)
def test_an_epoch_names_those_who_are_there(
    there: list[int], sealed: list[int] | None, finished: list[int], expected: list[int] | None
) -> None:
    """Of two to four workers."""
    known = None if sealed is None else spec(*sealed)
    view = Assessor(Replicas.of("worker=2:4")).assess(registrations(workers(*there), workers(*finished)), known, {})
    assert due(view) == expected


def test_who_was_sealed_is_lost_until_the_next_epoch() -> None:
    """And then it is nothing any more, unlike a task of a fixed role."""
    assessor, there = Assessor(Replicas.of("worker=2:4")), registrations(workers(0, 1))
    known = {task: f"a{task.index}" for task in workers(0, 1, 2)}
    assert assessor.assess(there, spec(0, 1, 2), known).lost == {Task("worker", 2): "a2"}
    assert not assessor.assess(there, spec(0, 1), known).lost


def test_nobody_is_waited_for_when_all_who_were_there_are_there_again() -> None:
    """Or when nobody else can come."""
    assessor = Assessor(Replicas.of("worker=2:4"))
    back = {**registrations(workers(0, 1)), **registrations(workers(2), name="b")}
    assert assessor.assess(back, spec(0, 1, 2), {}).full
    assert assessor.assess(registrations(workers(0, 1, 2, 3)), spec(0, 1), {}).full
    assert not assessor.assess(registrations(workers(0, 1)), spec(0, 1, 2), {}).full


class Time:
    """A job of two to four workers, whose epochs ripen."""

    def __init__(self, sealed: list[int] | None = None) -> None:
        self.assessor = Assessor(Replicas.of("worker=2:4"))
        self.ripening = Ripening(Policy(last_call=30, settling=3))
        self.sealed = None if sealed is None else spec(*sealed)

    def at(self, now: float, *there: int) -> float:
        """When the next epoch is ripe, as it looks at `now` with these there."""
        view = self.assessor.assess(registrations(workers(*there)), self.sealed, {})
        return self.ripening.at(view, now, first=self.sealed is None)


def test_the_last_call_begins_with_the_least_and_is_not_prolonged() -> None:
    """By those who come meanwhile; the most of them end it."""
    time = Time()
    assert time.at(100, 0) == math.inf
    assert time.at(110, 0, 1) == 140
    assert time.at(139, 0, 1, 2) == 140
    assert time.at(139.5, 0, 1, 2, 3) == 139.5


def test_the_last_call_begins_anew_when_too_few_are_left() -> None:
    """As if nobody had been there."""
    time = Time()
    assert time.at(100, 0, 1) == 130
    assert time.at(129, 1) == math.inf
    assert time.at(135, 1, 2) == 165


def test_changes_settle_before_they_make_an_epoch() -> None:
    """Each new one begins the settling anew; but changes without end are not waited for longer than a last call."""
    time = Time([0, 1])
    assert time.at(100, 0, 1) == math.inf
    assert time.at(101, 0, 1, 2) == 104
    assert time.at(103, 0, 2) == 106
    assert time.at(105, 0, 2) == 106
    for now in range(105, 130, 2):
        assert time.at(now, 0, 2 + now % 4 // 2) <= 131
    assert time.at(130.5, 0, 3) == 131


def test_a_change_that_is_undone_makes_no_epoch() -> None:
    """Nor does it count later."""
    time = Time([0, 1])
    assert time.at(100, 0, 1, 2) == 103
    assert time.at(101, 0, 1) == math.inf
    assert time.at(200, 0, 1, 2) == 203
