"""Ten thousand random schedules of the real protocol code, with faults; every promise is checked on each."""

from __future__ import annotations

import pytest

from explorer.exploring import explore

BATCH = 500
BATCHES = 20

pytestmark = pytest.mark.explorer


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_schedule_breaks_a_promise(batch: int) -> None:
    """Released or broken, one of the two, counted once, never by a stranger, never hanging: whatever is lost or late.

    A failure names its seed and tells its steps; `explore(seed)` plays exactly that schedule again.
    """
    played = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        explore(seed)  # raises Violation
        played += 1
    assert played == BATCH
