"""PaddlePaddle: its role maker with servers, and its collective, with a process of it killed.

The wheels for CPUs are built without the parameter server itself (`paddle.base.core` has no DistFleetWrapper), so with
servers it ends at what fleet has understood.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from frameworks.helpers import program, succeeded, told

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]

ROLE = """
import paddle, paddle.distributed.fleet as fleet
paddle.enable_static()
fleet.init(fleet.PaddleCloudRoleMaker(is_collective=False))
kind, index = ("server", fleet.server_index()) if fleet.is_server() else ("worker", fleet.worker_index())
print(kind, index, fleet.worker_num(), fleet.server_num(), *fleet.server_endpoints(), *fleet.worker_endpoints(), flush=True)
"""

SUM = """
import os, signal, time
import paddle, paddle.distributed as dist
dist.init_parallel_env()
ranks = paddle.to_tensor([dist.get_rank()])
dist.all_reduce(ranks)
print("epoch", os.environ["PSBARRIER_EPOCH"], "rank", dist.get_rank(), "sum", int(ranks.item()), flush=True)
dist.barrier()
if os.environ["PSBARRIER_EPOCH"] == "1":
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1000)
"""


def test_the_role_maker_knows_servers_and_trainers(tmp_path: Path) -> None:
    """Who it is, how many there are, and where: the same list for all."""
    job = succeeded(tmp_path, None, "local", "--ps", "2", "--worker", "2", "--emit", "paddle", *program(ROLE))
    said = told(job, r"(server|worker) (\d) 2 2 (.*)")
    assert [(task, kind, index) for task, kind, index, _ in said] == [
        ("ps/0", "server", "0"),
        ("ps/1", "server", "1"),
        ("worker/0", "worker", "0"),
        ("worker/1", "worker", "1"),
    ]
    (addresses,) = {where for _, _, _, where in said}
    assert len(set(addresses.split())) == 4


def test_all_of_a_collective_start_again_when_one_was_killed(tmp_path: Path) -> None:
    """In the second epoch what they add up to is right again; nobody else has crashed."""
    options = ("local", "--worker", "3", "--max-restarts", "1", "--emit", "paddle")
    job = succeeded(tmp_path, None, *options, *program(SUM), PADDLE_DISTRI_BACKEND="gloo")
    assert told(job, r"epoch (\d) rank (\d) sum 3") == sorted(
        (f"worker/{rank}", epoch, str(rank)) for epoch in "12" for rank in range(3)
    )
    assert job.err.count("starting it again") == 1
