"""Finding: what one check has found, in words for whoever is on duty."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Literal

from attrs import evolve, frozen


class Verdict(enum.Enum):
    """OK; NOTE: more about another finding; WARNING: a job would run, but look at it; PROBLEM: it would stop a job;
    SKIPPED: it could not be looked at."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


Kind = Literal["", "unavailable", "refused", "usage"]


@frozen
class Finding:
    """`where` it was looked (an endpoint, "etcd", the keys, an address), what was checked, and what was `said`.

    `advice` is what to do. `kind` is the sort of error that a job would end with because of it.
    """

    where: str
    check: str
    verdict: Verdict
    said: str
    advice: str = ""
    kind: Kind = ""

    def __str__(self) -> str:
        return f"{self.said}; {self.advice}" if self.advice else self.said


@frozen
class Place:
    """Makes the findings of one place."""

    where: str

    def ok(self, check: str, said: str) -> Finding:
        """All is well."""
        return Finding(self.where, check, Verdict.OK, said)

    def note(self, check: str, said: str) -> Finding:
        """More about another finding."""
        return Finding(self.where, check, Verdict.NOTE, said)

    def warning(self, check: str, said: str, advice: str = "") -> Finding:
        """A job would run all the same."""
        return Finding(self.where, check, Verdict.WARNING, said, advice)

    def problem(self, check: str, said: str, advice: str, kind: Kind) -> Finding:
        """No job would run."""
        return Finding(self.where, check, Verdict.PROBLEM, said, advice, kind)

    def skipped(self, check: str, why: str) -> Finding:
        """It could not be looked at."""
        return Finding(self.where, check, Verdict.SKIPPED, f"not checked: {why}")


def soften(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The same, where something else makes up for the problems: they are warnings then."""
    return tuple(
        evolve(finding, verdict=Verdict.WARNING) if finding.verdict is Verdict.PROBLEM else finding
        for finding in findings
    )


def problems(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that would stop a job."""
    return tuple(finding for finding in findings if finding.verdict is Verdict.PROBLEM)
