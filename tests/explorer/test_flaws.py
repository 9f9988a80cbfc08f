"""The explorer can fail: each mistake, planted into the real code, is found within a few thousand schedules at most.

A flaw names the text that it replaces, so whoever changes such a line is asked to say the flaw anew.
"""

from __future__ import annotations

import pytest

from explorer.exploring import play
from explorer.flaws import Flaw, planted
from explorer.mistakes import FLAWS
from explorer.themes import scenario_of
from explorer.violation import Violation
from explorer.world import World

pytestmark = [pytest.mark.explorer, pytest.mark.timeout(400)]

SCHEDULES = 5000


def first_violation(theme: str) -> str:
    """The first one that schedules of `theme` show, or nothing."""
    for seed in range(SCHEDULES):
        try:
            play(World(scenario_of(seed, theme)))
        except Violation as violation:
            return str(violation)
    return ""


@pytest.mark.parametrize("flaw", FLAWS, ids=str)
def test_a_planted_mistake_is_found(flaw: Flaw) -> None:
    """By the promise that it breaks, and not by an accident."""
    with planted(flaw):
        violation = first_violation(flaw.theme)
    assert violation, f"{SCHEDULES} schedules did not show it"
    assert violation.startswith(flaw.promises), violation
