"""docs/reliability.md says what the code does: its tables are those of the tests."""

from __future__ import annotations

import re
from pathlib import Path

from explorer.mistakes import FLAWS
from faults import mistakes as campaign

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def first_cells(title: str) -> list[str]:
    """The first cells of a section's tables."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)


def test_the_explorers_mistakes_are_listed() -> None:
    """All of them, in their order."""
    assert first_cells("The explorer")[1:] == [flaw.name for flaw in FLAWS]


def test_the_campaigns_mistakes_are_listed() -> None:
    """All of them; and that nothing is found where none is."""
    listed = first_cells("The mistakes that the campaign finds")
    assert {flaw.name for flaw in campaign.FLAWS} <= set(listed)
    assert "none" in listed


def test_every_file_that_is_named_is_there() -> None:
    """Whoever wants to run a command again finds it."""
    for name in re.findall(r"`?((?:tests|benchmarks)/[\w/.]+)", PAGE):
        assert (ROOT / name).exists(), name
