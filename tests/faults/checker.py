"""Checker: a history in, the promises that it breaks out; nothing else goes in, and nothing is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from faults import barriers_check, calls_check, endings_check, members_check
from faults.history import History
from faults.verdict import Violation

NEWS = 5.0
"""Seconds within which a release, a value or a loss must be heard when nothing fails."""

CHECKS: tuple[Callable[[History], Iterator[Violation]], ...] = (
    calls_check.record,
    calls_check.errors,
    calls_check.ends,
    calls_check.leftovers,
    calls_check.deadlines,
    calls_check.once,
    members_check.tokens,
    members_check.slots,
    members_check.authority,
    members_check.leaders,
    members_check.listed,
    members_check.losses,
    members_check.certainty,
    barriers_check.meetings,
    partial(barriers_check.news, soon=NEWS),
    partial(barriers_check.values, soon=NEWS),
    partial(barriers_check.farewells, soon=NEWS),
    endings_check.states,
    endings_check.counts,
    endings_check.runs,
    endings_check.finishes,
    endings_check.epochs,
)


def check(history: History) -> list[Violation]:
    """Every violation that is found."""
    return [violation for find in CHECKS for violation in find(history)]


def void(history: History) -> str:
    """Why nothing follows from the round, if etcd itself broke what it promises.

    A member of etcd 3.5.0 to 3.5.2 that is killed may come back without a change that the others have (etcd's pull request
    13908). It stays one revision behind for ever, and whoever asks it is told of another history.
    """
    known = {revision for revision in history.revisions_left if revision is not None}
    if len(known) < 2:
        return ""
    return f"etcd's members ended with different data, at revisions {', '.join(map(str, history.revisions_left))}"
