"""Mistakes: a table of flaws that the campaign must find."""

from __future__ import annotations

from explorer.flaws import Flaw

FLAWS: tuple[Flaw, ...] = ()


def flaw_named(name: str) -> Flaw:
    return next(flaw for flaw in FLAWS if flaw.name == name)
