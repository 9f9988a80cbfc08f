"""Verdict: which promises a round broke."""

from __future__ import annotations

from attrs import frozen


@frozen
class Violation:
    """`promise` is the name of the one that was broken."""

    promise: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"
