"""What `psbarrier run` does when a member was replaced."""

from __future__ import annotations

import pytest

from psbarrier.cli.plan import Plan
from psbarrier.spec import Replicas


def plan(replicas: str, *emit: str, **given: str) -> Plan:
    counts = Replicas.of(replicas)
    return Plan("ctr", counts.roles[0], None, counts, ("true",), emit=emit, **given)  # type: ignore[arg-type]  # on_epoch


@pytest.mark.parametrize("framework", ["torch", "jax", "horovod", "xgboost", "paddle"])
def test_a_collective_starts_again_as_a_whole_by_default(framework: str) -> None:
    """It cannot take in a new member while it runs."""
    chosen = plan("worker=2", framework)
    assert chosen.restarts
    assert chosen.together


@pytest.mark.parametrize("frameworks", [(), ("tensorflow",), ("paddle",), ("dmlc", "psbarrier")])
def test_parameter_servers_and_unknown_programs_go_on_by_default(frameworks: tuple[str, ...]) -> None:
    """They find the new member in the cluster file, or by themselves."""
    assert not plan("ps=1,worker=2", *frameworks).restarts


def test_whoever_says_what_to_do_gets_that() -> None:
    """Only a collective starts together: of others nobody knows who belongs to whom."""
    assert not plan("worker=2", "torch", on_epoch="ignore").restarts
    restarted = plan("ps=1,worker=2", "tensorflow", on_epoch="restart")
    assert restarted.restarts
    assert not restarted.together
