"""A spec of an elastic role leaves tasks out: what frameworks count has no gaps."""

from __future__ import annotations

import json

import pytest

from psbarrier.emit import FORMATS
from psbarrier.spec import ClusterSpec, MemberSpec, Task

PS = [MemberSpec(Task("ps", index), f"ps{index}:1") for index in range(2)]
WORKERS = [MemberSpec(Task("worker", index), f"w{index}:1") for index in (1, 4)]
SPEC = ClusterSpec("ctr", "r1", 3, (*PS, *WORKERS))
ALONE = ClusterSpec("ctr", "r1", 3, tuple(WORKERS))
SCHEDULED = ClusterSpec("ctr", "r1", 3, (*PS, MemberSpec(Task("scheduler", 0), "s:1"), *WORKERS))
ID = {
    "dmlc": (SCHEDULED, "DMLC_WORKER_ID"),
    "horovod": (ALONE, "HOROVOD_RANK"),
    "jax": (ALONE, "JAX_PROCESS_ID"),
    "paddle": (SPEC, "PADDLE_TRAINER_ID"),
    "torch": (ALONE, "RANK"),
    "xgboost": (ALONE, "DMLC_TASK_ID"),
}


@pytest.mark.parametrize("form", sorted(ID))
def test_ranks_follow_one_another(form: str) -> None:
    """worker/1 and worker/4 are the first and the second."""
    spec, name = ID[form]
    assert [spec.env(form, member.task)[name] for member in WORKERS] == ["0", "1"]


def test_torch_counts_the_role_too() -> None:
    """As everything else."""
    assert [ALONE.env("torch", member.task)["ROLE_RANK"] for member in WORKERS] == ["0", "1"]


def test_tensorflow_finds_itself_in_the_list() -> None:
    """At the index that it is told."""
    for member in SPEC.members:
        config = json.loads(SPEC.env("tensorflow", member.task)["TF_CONFIG"])
        task = config["task"]
        assert config["cluster"][task["type"]][task["index"]] == member.address


def test_tensorflows_sparse_workers_keep_their_index() -> None:
    """Which the chief is told, too."""
    spec = ClusterSpec("ctr", "r1", 3, (MemberSpec(Task("chief", 0), "c:1"), *SPEC.members))
    seen = json.loads(spec.env("tensorflow-sparse", Task("chief", 0))["TF_CONFIG"])["cluster"]["worker"]
    assert seen == {"1": "w1:1", "4": "w4:1"}
    mine = json.loads(spec.env("tensorflow-sparse", Task("worker", 4))["TF_CONFIG"])
    assert (mine["cluster"]["worker"], mine["task"]["index"]) == ({"4": "w4:1"}, 4)


def test_every_format_is_tried_here() -> None:
    """A new one must say how it counts."""
    assert set(FORMATS) == {*ID, "psbarrier", "tensorflow", "tensorflow-sparse"}
