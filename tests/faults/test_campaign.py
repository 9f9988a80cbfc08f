"""A short campaign, and what must hold of every plan. The long one is the package's command."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from faults.campaign import Campaign, line, summary
from faults.directed import PLANS, directed
from faults.drawing import ETCD_FAULTS, TASK_FAULTS, plan_of
from faults.mistakes import FLAWS, flaw_named
from faults.plan import Plan
from faults.proof import caught


def test_a_plan_follows_from_seed_and_round() -> None:
    """So that a round can be played again."""
    for number in range(50):
        assert plan_of(3, number) == plan_of(3, number)
        assert Plan.loads(plan_of(3, number).dumps()) == plan_of(3, number)
    assert plan_of(3, 1) != plan_of(4, 1)


def test_each_kind_of_fault_is_drawn() -> None:
    """In a few hundred rounds, at times at which the job is under way, and undone before the quiet end."""
    kinds: Counter[str] = Counter()
    for number in range(400):
        plan = plan_of(3, number)
        kinds.update(fault.kind for fault in plan.faults)
        assert all(0 < fault.at < plan.calm for fault in plan.faults)
    assert set(kinds) == {*ETCD_FAULTS, *TASK_FAULTS, "revoke-run"}


def test_each_mistake_has_its_plan() -> None:
    """And the plan survives the way to the processes that play it."""
    assert {flaw.theme for flaw in FLAWS} <= set(PLANS)
    for name in PLANS:
        plan = directed(name, 1, "a mistake")
        assert Plan.loads(plan.dumps()) == plan


@pytest.mark.e2e
def test_a_short_campaign_finds_nothing_and_is_not_played_twice(tmp_path: Path) -> None:
    """Real processes over a real cluster, with faults; a second campaign takes the verdicts of the first."""
    plans = [plan_of(1, 4), plan_of(1, 9)]
    told: list[str] = []
    verdicts = list(Campaign(tmp_path, 2, told.append).play(plans))
    assert [said["violations"] for said in verdicts] == [[], []], "\n".join(told)
    assert sum(sum(said["faults"].values()) for said in verdicts) >= 2
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = list(Campaign(tmp_path, 2, told.append).play(plans))
    assert sorted(map(line, again)) == sorted(map(line, verdicts))
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert "| rounds | 2 |" in summary(again)


@pytest.mark.e2e
def test_a_planted_mistake_is_found_by_a_round(tmp_path: Path) -> None:
    """A barrier that is released by all but one; the round's history is kept, and is read again."""
    flaw = flaw_named("released by all but one")
    (said,) = Campaign(tmp_path, 1, lambda _: None).play([directed(flaw.theme, 0, flaw.name)])
    assert caught(flaw, said)
    assert (tmp_path / "released-by-all-but-one-0000" / "etcd.jsonl").exists()
