"""The explorer can fail: each mistake, planted into the real code, is found within a few thousand schedules at most.

A flaw names the text that it replaces, so whoever changes such a line is asked to say the flaw anew.
"""

from __future__ import annotations

import pytest

from explorer.finding import SCHEDULES, first_violation, found
from explorer.flaws import Flaw
from explorer.mistakes import FLAWS

pytestmark = [pytest.mark.explorer, pytest.mark.timeout(400)]


@pytest.mark.parametrize("flaw", FLAWS, ids=str)
def test_a_planted_mistake_is_found(flaw: Flaw) -> None:
    """By the promise that it breaks, and not by an accident."""
    _, violation = first_violation(flaw, begin=found().get(flaw.name, 0))
    assert violation, f"{SCHEDULES} schedules did not show it"
    assert violation.startswith(flaw.promises), violation
