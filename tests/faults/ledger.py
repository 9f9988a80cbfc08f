"""Ledger: etcd's history played again, step by step, and what it says of each incarnation and each run.

A run that was lost from etcd may be founded anew under the same name: a *life* of a run lasts from the writing of its
config until that goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from attrs import frozen

from faults.history import Change, History, Process, Revision
from psbarrier.protocol.records import Registration

_RUN = re.compile(r"(?P<root>/psbarrier/[^/]+/runs/[^/]+/)(?P<rest>.*)", re.DOTALL)
Life = tuple[str, int]
"""The root of a run's keys, and the create revision of its config."""


@frozen
class Step:
    """One revision: how each key of the runs stood before and after it."""

    revision: Revision
    before: Mapping[str, Change]
    after: Mapping[str, Change]

    def life(self, root: str) -> Life | None:
        """The life in which the step belongs; None when the run was not there."""
        config = self.after.get(f"{root}config") or self.before.get(f"{root}config")
        return (root, config.create) if config is not None else None


@frozen
class Place:
    """Where a key lies: below which run, and how the rest of it reads."""

    root: str
    rest: str


def place(key: str) -> Place | None:
    """None for a key outside of every run."""
    found = _RUN.fullmatch(key)
    return Place(found["root"], found["rest"]) if found else None


def steps(history: History) -> Iterator[Step]:
    """Every revision, in order."""
    before: dict[str, Change] = {}
    for revision in history.revisions:
        after = dict(before)
        for change in revision.changes:
            if change.deleted:
                after.pop(change.key, None)
            else:
                after[change.key] = change
        yield Step(revision, before, after)
        before = after


@frozen
class Tenure:
    """The time for which one incarnation was registered: from its token on, until the step that ended that."""

    life: Life
    key: str
    task: str
    incarnation: str
    token: int
    lease: int
    ended: Revision | None = None


def tenures(history: History) -> dict[int, Tenure]:
    """All registrations that there ever were, by token."""
    found: dict[int, Tenure] = {}
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            if where is None or not where.rest.startswith("members/"):
                continue
            was, now = step.before.get(change.key), step.after.get(change.key)
            if was is not None and (now is None or now.create != was.create) and was.create in found:
                old = found[was.create]
                found[was.create] = Tenure(
                    old.life, old.key, old.task, old.incarnation, old.token, old.lease, step.revision
                )
            life = step.life(where.root)
            if now is not None and now.create not in found and life is not None:
                registration = Registration.unpack(now.key, now.value)
                task = where.rest.removeprefix("members/")
                found[now.create] = Tenure(life, now.key, task, registration.incarnation, now.create, now.lease)
    return found


def held(history: History) -> Iterator[tuple[Process, Tenure]]:
    """Each process that had joined, and its tenure."""
    known = tenures(history)
    for process in history.processes:
        if process.standing is not None and process.standing.token in known:
            yield process, known[process.standing.token]


def writers(history: History) -> dict[int, Process]:
    """Who was told that a revision was its own."""
    return {write.revision: process for process in history.processes for write in process.writes}
