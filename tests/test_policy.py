"""Policy: when a job has succeeded, how much it forgives, and that every process of a run says the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from protocol.strategies import NAMES, POLICIES

from psbarrier.errors import InvalidArgumentError
from psbarrier.policy import Policy
from psbarrier.spec import Replicas


@pytest.mark.parametrize(
    ("replicas", "deciding"),
    [
        ("chief=1,ps=2,worker=4", ("chief",)),
        ("ps=2,worker=4", ("worker",)),
        ("server=2,trainer=4", ("server", "trainer")),
        ("ps=1", ("ps",)),
    ],
)
def test_success_is_the_chiefs_else_the_workers_else_everybodys(replicas: str, deciding: tuple[str, ...]) -> None:
    """What a job of the usual roles means without being told."""
    assert Policy().deciding_roles(Replicas.of(replicas)) == deciding


def test_success_may_be_told() -> None:
    """One role or several, in any order."""
    replicas = Replicas.of("chief=1,ps=2,worker=4")
    assert Policy(success="worker").deciding_roles(replicas) == ("worker",)
    assert Policy(success=["worker", "ps"]) == Policy(success=("ps", "worker"))
    with pytest.raises(InvalidArgumentError, match="'evaluator' is not among the replicas"):
        Policy(success="evaluator").deciding_roles(replicas)
    with pytest.raises(InvalidArgumentError, match="could never succeed"):
        Policy(success=()).deciding_roles(replicas)


def test_grace_is_for_all_roles_or_for_each() -> None:
    """A role that a mapping leaves out has the minute that is usual."""
    assert Policy(loss_grace=5).grace("worker") == 5.0
    assert [Policy(loss_grace={"ps": 0}).grace(role) for role in ("ps", "worker")] == [0.0, 60.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss_grace": -1},
        {"loss_grace": math.nan},
        {"loss_grace": math.inf},
        {"loss_grace": "60"},
        {"loss_grace": True},
        {"loss_grace": {"worker": -1}},
        {"retention": -1},
        {"retention": math.inf},
        {"retention": 10**400},
        {"retention": None},
        {"max_restarts": -1},
        {"max_restarts": 1.5},
        {"max_restarts": True},
    ],
    ids=lambda wrong: "-".join(f"{name}={str(value)[:12]}" for name, value in wrong.items()),
)
def test_a_number_that_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    """By name, before anything is asked of etcd."""
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        Policy(**wrong)  # type: ignore[arg-type]


@given(policy=POLICIES)
def test_a_policy_is_the_same_in_every_process(policy: Policy) -> None:
    """What is written to etcd says all of it, and 60 is 60.0."""
    assert Policy.from_dict(policy.as_dict()) == policy
    assert Policy.from_dict(policy.as_dict()).as_dict() == policy.as_dict()
    assert Policy(loss_grace=60).as_dict() == Policy(loss_grace=60.0).as_dict()


@given(names=NAMES)
def test_a_mapping_of_graces_has_no_order(names: str) -> None:
    """Two processes may write it differently, and mean the same."""
    one, other = {names: 1.0, "zz-last": 2.0}, {"zz-last": 2.0, names: 1.0}
    assert list(Policy(loss_grace=one).as_dict()["loss_grace"]) == list(
        Policy(loss_grace=other).as_dict()["loss_grace"]
    )
