"""Formats of collectives: one rank for each process, the same order for all, and who shares a host with whom."""

from __future__ import annotations

import pytest

from emit.helpers import spec_of
from psbarrier import emit
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task

RANK = {"torch": "RANK", "horovod": "HOROVOD_RANK", "xgboost": "DMLC_TASK_ID", "paddle": "PADDLE_TRAINER_ID"}
LOCAL_RANKS = ["horovod", "torch"]
collectives = pytest.mark.parametrize("framework", RANK)

HOSTS = ClusterSpec.from_addresses({"worker": ["a:1", "b:1", "a:2", "c:1", "b:2", "a:3"]})


@collectives
def test_every_task_has_a_rank_of_its_own(framework: str) -> None:
    """In the order of the roles' names and the indices, after the chief."""
    spec = spec_of(chief=1, a_role=2, worker=11)
    expected = [Task("chief", 0), *(m.task for m in spec.members if m.task.role != "chief")]
    ranks = {task: int(spec.env(framework, task)[RANK[framework]]) for task in expected}
    assert ranks == {task: rank for rank, task in enumerate(expected)}


@collectives
@pytest.mark.parametrize("role", ["chief", "master"])
def test_two_tasks_cannot_both_be_rank_0(framework: str, role: str) -> None:
    """With both names in the message."""
    with pytest.raises(InvalidArgumentError, match=f"{role}/0 and {role}/1 would both be it"):
        spec_of(**{role: 2, "worker": 1}).env(framework, Task("worker", 0))


@pytest.mark.parametrize("framework", ["horovod", "xgboost"])
@pytest.mark.parametrize("role", ["ps", "server", "scheduler", "evaluator"])
def test_a_role_that_is_no_worker_is_refused(framework: str, role: str) -> None:
    """Such a process would be waited for in every collective."""
    with pytest.raises(InvalidArgumentError, match=f"no part for the role '{role}'"):
        spec_of(**{role: 1, "worker": 1}).env(framework, Task("worker", 0))


def test_pytorch_takes_every_role() -> None:
    """It has no roles of its own: a ps of torch.distributed.rpc is a rank like any other."""
    said = spec_of(ps=1, worker=2).env("torch", Task("worker", 1))
    assert (said["RANK"], said["WORLD_SIZE"]) == ("2", "3")
    assert (said["ROLE_NAME"], said["ROLE_RANK"], said["ROLE_WORLD_SIZE"]) == ("worker", "1", "2")


@pytest.mark.parametrize("framework", LOCAL_RANKS)
def test_several_processes_of_a_task_have_ranks_that_follow_one_another(framework: str) -> None:
    """Each is told its own, and there are as many as all tasks have together."""
    name = RANK[framework]
    said = [
        HOSTS.env(framework, member.task, local_rank=local, local_size=2)
        for member in HOSTS.members
        for local in range(2)
    ]
    assert [int(one[name]) for one in said] == list(range(12))
    assert {one[name.replace("RANK", "WORLD_SIZE" if framework == "torch" else "SIZE")] for one in said} == {"12"}


def test_tasks_that_share_a_host_have_local_ranks() -> None:
    """So that each takes a device of its own; a host is a node."""
    said = [HOSTS.env("torch", member.task) for member in HOSTS.members]
    assert [int(one["LOCAL_RANK"]) for one in said] == [0, 0, 1, 0, 1, 2]
    assert [int(one["LOCAL_WORLD_SIZE"]) for one in said] == [3, 2, 3, 1, 2, 3]
    assert [int(one["GROUP_RANK"]) for one in said] == [0, 1, 0, 2, 1, 0]
    assert {one["GROUP_WORLD_SIZE"] for one in said} == {"3"}


def test_horovod_crosses_the_hosts_with_the_same_local_rank() -> None:
    """As get_host_assignments() of horovod/runner/common/util/hosts.py gives them out (Horovod 0.28.1)."""
    said = [HOSTS.env("horovod", member.task) for member in HOSTS.members]
    assert [int(one["HOROVOD_LOCAL_RANK"]) for one in said] == [0, 0, 1, 0, 1, 2]
    assert [int(one["HOROVOD_CROSS_RANK"]) for one in said] == [0, 1, 0, 2, 1, 0]
    assert [int(one["HOROVOD_CROSS_SIZE"]) for one in said] == [3, 3, 2, 3, 2, 1]
    assert [one["HOROVOD_HOSTNAME"] for one in said] == ["a", "b", "a", "c", "b", "a"]


@pytest.mark.parametrize("framework", sorted(set(emit.FORMATS) - {*LOCAL_RANKS, "jax"}))
def test_a_format_without_local_ranks_says_so(framework: str) -> None:
    """And names those that have some."""
    with pytest.raises(InvalidArgumentError, match=r"one process for each task.*torch"):
        spec_of(worker=1).env(framework, Task("worker", 0), local_size=2)


@pytest.mark.parametrize(("rank", "size"), [(1, 1), (-1, 2), (2, 2), (0, 0), (True, 2), (0, 2.0), ("0", 1)])
def test_a_local_rank_that_cannot_be_is_refused(rank: int, size: int) -> None:
    """It is from 0 to one less than their number."""
    with pytest.raises(InvalidArgumentError, match="local_"):
        spec_of(worker=1).env("torch", Task("worker", 0), local_rank=rank, local_size=size)


def test_pytorch_gets_an_ipv6_address_without_brackets() -> None:
    """torch/distributed/rendezvous.py hands the host to getaddrinfo as it is."""
    said = spec_of("[fd00::{index}]", worker=2).env("torch", Task("worker", 1))
    assert (said["MASTER_ADDR"], said["MASTER_PORT"]) == ("fd00::0", "2222")
    assert (said["PET_MASTER_ADDR"], said["PET_MASTER_PORT"]) == ("fd00::0", "2222")


def test_torchrun_sees_each_task_as_a_node() -> None:
    """Its arguments by other names (torch/distributed/argparse_util.py); how many processes it starts is left to it."""
    said = spec_of(worker=3).env("torch", Task("worker", 2))
    arguments = {name.removeprefix("PET_"): value for name, value in said.items() if name.startswith("PET_")}
    assert arguments == {
        "NNODES": "3",
        "NODE_RANK": "2",
        "MASTER_ADDR": "worker-0",
        "MASTER_PORT": "2222",
        "RDZV_BACKEND": "static",
        "RDZV_ID": "ctr.static.0",
        "ROLE": "worker",
    }


def test_the_tracker_of_xgboost_is_where_rank_0_is() -> None:
    """An IPv6 address has no brackets there: the tracker and its workers hand it to getaddrinfo."""
    said = spec_of("[fd00::{index}]", worker=2).env("xgboost", Task("worker", 1))
    assert said == {
        "DMLC_TRACKER_URI": "fd00::0",
        "DMLC_TRACKER_PORT": "2222",
        "DMLC_TASK_ID": "1",
        "DMLC_NUM_WORKER": "2",
    }


def test_task_ids_of_xgboost_sort_as_text() -> None:
    """RabitTracker(sortby="task") gives out the ranks in that order."""
    spec = spec_of(worker=101)
    ids = [spec.env("xgboost", member.task)["DMLC_TASK_ID"] for member in spec.members]
    assert ids == sorted(ids)
    assert ids[7] == "007"


@pytest.mark.parametrize("framework", ["horovod", "paddle", "mpich"])
def test_ipv6_is_refused_where_addresses_are_split_at_a_colon(framework: str) -> None:
    """With the reason, and who has it."""
    spec = spec_of("[fd00::{index}]", worker=1)
    with pytest.raises(InvalidArgumentError, match=r"':'.*worker/0 has '\[fd00::0\]:2222'"):
        emit.file(framework, spec) if framework in emit.FILES else spec.env(framework, Task("worker", 0))


def test_host_files_have_a_line_for_each_host() -> None:
    """`host slots=N` for Open MPI, `host:N` for MPICH, in the order of the lowest ranks."""
    assert emit.file("openmpi", HOSTS) == "a slots=3\nb slots=2\nc slots=1\n"
    assert emit.file("mpich", HOSTS) == "a:3\nb:2\nc:1\n"


def test_a_file_is_no_environment() -> None:
    """Whoever asks for one as the other is told."""
    with pytest.raises(InvalidArgumentError, match="is a file"):
        HOSTS.env("openmpi", Task("worker", 0))
    with pytest.raises(InvalidArgumentError, match="there are mpich, openmpi; did you mean 'openmpi'"):
        emit.file("openmpj", HOSTS)


def test_who_cannot_replace_a_member_in_place() -> None:
    """All must start again; Paddle only when there are no servers."""
    assert [name for name in emit.FORMATS if emit.replaces_nobody([name], ["worker"])] == sorted(
        {"horovod", "jax", "paddle", "torch", "xgboost"} & set(emit.FORMATS)
    )
    assert not emit.replaces_nobody(["paddle", "tensorflow"], ["ps", "worker"])
    assert emit.replaces_nobody(["tensorflow", "torch"], ["worker"])
    assert not emit.replaces_nobody([], ["worker"])
