"""Finding: which schedule shows a planted mistake. Thousands may be needed, so it is kept which one it was last time.

`python -m explorer.finding`, in the folder of the tests, looks through all schedules and writes `found.json` anew. An old
one costs nothing but time: a search begins at what it says, and goes on to as many schedules as without it.
"""

from __future__ import annotations

import json
from pathlib import Path

from explorer.exploring import play
from explorer.flaws import Flaw, planted
from explorer.themes import scenario_of
from explorer.violation import Violation
from explorer.world import World

SCHEDULES = 5000
FOUND = Path(__file__).with_name("found.json")


def found() -> dict[str, int]:
    """The seeds of the schedules that showed each mistake last time, by its name."""
    seeds: dict[str, int] = json.loads(FOUND.read_text())
    return seeds


def first_violation(flaw: Flaw, begin: int = 0) -> tuple[int, str]:
    """The first seed from `begin` on that shows the mistake, and what is violated; nothing when `SCHEDULES` do not."""
    with planted(flaw):
        for seed in range(begin, begin + SCHEDULES):
            try:
                play(World(scenario_of(seed, flaw.theme)))
            except Violation as violation:
                return seed, str(violation)
    return begin + SCHEDULES, ""


def _find_all() -> None:
    from explorer.mistakes import FLAWS

    seeds = {flaw.name: first_violation(flaw)[0] for flaw in FLAWS}
    FOUND.write_text(json.dumps(seeds, indent=2) + "\n")


if __name__ == "__main__":
    _find_all()
