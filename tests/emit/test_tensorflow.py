"""TF_CONFIG, and psbarrier's own variables: each process learns who it is, and who the others are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from psbarrier import emit
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, MemberSpec, Task


def spec_of(**counts: int) -> ClusterSpec:
    members = [
        MemberSpec(Task(role, index), f"{role}-{index}:2222")
        for role in sorted(counts)
        for index in range(counts[role])
    ]
    return ClusterSpec("ctr", "r1", 3, tuple(members))


def tf_config(spec: ClusterSpec, task: Task, form: str = "tensorflow") -> Any:
    variables = spec.env(form, task)
    assert list(variables) == ["TF_CONFIG"]
    return json.loads(variables["TF_CONFIG"])


def test_each_task_sees_the_whole_cluster_and_itself() -> None:
    """The form that TFConfigClusterResolver reads."""
    spec = spec_of(chief=1, ps=2, worker=2)
    cluster = {
        "chief": ["chief-0:2222"],
        "ps": ["ps-0:2222", "ps-1:2222"],
        "worker": ["worker-0:2222", "worker-1:2222"],
    }
    for member in spec.members:
        task = {"type": member.task.role, "index": member.task.index}
        assert tf_config(spec, member.task) == {"cluster": cluster, "task": task}


def test_the_evaluator_stands_outside_the_cluster() -> None:
    """Nobody is told of it, and it is told of everybody."""
    spec = spec_of(chief=1, evaluator=1, worker=1)
    for task in (Task("evaluator", 0), Task("worker", 0)):
        said = tf_config(spec, task)
        assert set(said["cluster"]) == {"chief", "worker"}
        assert said["task"] == {"type": task.role, "index": 0}


def test_a_master_is_called_chief() -> None:
    """TensorFlow 2 refuses the old name."""
    said = tf_config(spec_of(master=1, worker=1), Task("master", 0))
    assert set(said["cluster"]) == {"chief", "worker"}
    assert said["task"]["type"] == "chief"


def test_a_sparse_cluster_names_who_a_task_speaks_to() -> None:
    """A worker itself and every ps, a ps only itself, by index, so that no other member's replacement changes what they
    are told; the chief sees all."""
    spec = spec_of(chief=1, evaluator=1, ps=2, worker=4)

    def seen(role: str, index: int) -> Any:
        said = tf_config(spec, Task(role, index), "tensorflow-sparse")
        assert said["task"] == {"type": role, "index": index}
        return said["cluster"]

    assert seen("worker", 3) == {"ps": ["ps-0:2222", "ps-1:2222"], "worker": {"3": "worker-3:2222"}}
    assert seen("ps", 1) == {"ps": {"1": "ps-1:2222"}}
    for role in ("chief", "evaluator"):
        assert seen(role, 0) == tf_config(spec, Task(role, 0))["cluster"]


def test_a_sparse_cluster_without_ps_is_refused() -> None:
    """Workers that reduce among themselves must know one another."""
    with pytest.raises(InvalidArgumentError, match="use the format 'tensorflow'"):
        spec_of(chief=1, worker=2).env("tensorflow-sparse", Task("worker", 0))


def test_an_ipv6_address_keeps_its_brackets() -> None:
    """TensorFlow takes the port from behind the last colon."""
    spec = ClusterSpec.from_addresses({"ps": ["[::1]:1"], "worker": ["[fd00::2]:2"]})
    for form in ("tensorflow", "tensorflow-sparse"):
        assert tf_config(spec, Task("worker", 0), form)["cluster"]["ps"] == ["[::1]:1"]


@pytest.mark.parametrize("form", ["tensorflow", "tensorflow-sparse"])
@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"chief": 1, "master": 1}, "old name"),
        ({"chief": 2, "worker": 1}, "at most one chief"),
        ({"master": 2, "worker": 1}, "at most one chief"),
        ({"evaluator": 2, "worker": 1}, "at most one evaluator"),
        ({"ps": 1, "trainer": 1}, "not 'trainer'"),
        ({"ps": 1, "chief": 1}, "at least one worker"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_cluster_that_tensorflow_would_refuse_is_refused_here(counts: dict[str, int], why: str, form: str) -> None:
    """With its rule, before any process is started."""
    spec = spec_of(**counts)
    with pytest.raises(InvalidArgumentError, match=why):
        spec.env(form, spec.members[0].task)


def test_a_task_that_is_not_in_the_cluster_gets_nothing() -> None:
    """Whatever the framework."""
    for framework in emit.FORMATS:
        with pytest.raises(InvalidArgumentError, match="no task worker/9"):
            spec_of(worker=1).env(framework, Task("worker", 9))


def test_an_unknown_framework_is_told_what_there_is() -> None:
    """And a misspelt one what was probably meant."""
    with pytest.raises(InvalidArgumentError, match="did you mean 'tensorflow'"):
        spec_of(worker=1).env("tensorflov", Task("worker", 0))
    with pytest.raises(InvalidArgumentError, match=r"there are .*psbarrier"):
        spec_of(worker=1).env("cobol", Task("worker", 0))


def test_our_own_variables_name_the_task_and_not_the_others() -> None:
    """A large cluster does not fit into a variable."""
    said = spec_of(ps=1, worker=4000).env("psbarrier", Task("worker", 7))
    assert said == {
        "PSBARRIER_JOB": "ctr",
        "PSBARRIER_RUN": "r1",
        "PSBARRIER_ROLE": "worker",
        "PSBARRIER_INDEX": "7",
        "PSBARRIER_ADDRESS": "worker-7:2222",
        "PSBARRIER_EPOCH": "3",
        "PSBARRIER_REPLICAS": "ps=1,worker=4000",
    }
