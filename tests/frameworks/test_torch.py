"""PyTorch: process groups over gloo, torchrun below psbarrier, and the example, with a process of it killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.helpers import clean, psbarrier

from frameworks.helpers import EXAMPLES, PATIENCE, program, says, script, succeeded, told
from psbarrier.embedded import free_ports
from psbarrier.spec import ClusterSpec, Task

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]

EXAMPLE = str(EXAMPLES / "torch_ddp.py")

SUM = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
ranks = torch.tensor([float(dist.get_rank())])
dist.all_reduce(ranks)
print("rank", dist.get_rank(), "local", os.environ["LOCAL_RANK"], "sum", int(ranks), flush=True)
dist.destroy_process_group()
"""


def test_four_tasks_are_one_process_group(tmp_path: Path) -> None:
    """init_process_group() needs no argument but the backend, and what all add up to is right."""
    job = succeeded(tmp_path, None, "local", "--worker", "4", "--emit", "torch", *program(SUM))
    assert told(job, r"rank (\d) local (\d) sum 6") == [(f"worker/{rank}", str(rank), str(rank)) for rank in range(4)]


def test_torchrun_starts_several_processes_for_each_task_and_again_when_one_was_killed(tmp_path: Path) -> None:
    """With no argument that says where the others are: four ranks train the example, to its end."""
    torchrun = (script("torchrun"), "--nproc-per-node", "2", EXAMPLE, "--epochs", "60")
    options = ("local", "--worker", "2", "--max-restarts", "3", "--emit", "torch", "--", *torchrun)
    with psbarrier(tmp_path, None, *options, "--checkpoint", str(tmp_path / "checkpoint")) as job:
        assert says(job, "epoch 5 of"), job.text
        # Two processes write into one pipe, and torchrun has them write each line and its end apart.
        started = re.findall(r"rank (\d) of 4, pid (\d+)", job.out)
        assert sorted(rank for rank, _ in started) == ["0", "1", "2", "3"]
        os.kill(int(dict(started)["3"]), signal.SIGKILL)
        assert job.process.wait(PATIENCE) == 0, job.text
        assert "goes on after epoch" in job.out
        assert job.out.count("epoch 60 of 60: loss") == 1


def test_the_example_needs_no_psbarrier(tmp_path: Path) -> None:
    """torchrun alone starts it as well."""
    checkpoint = ("--checkpoint", str(tmp_path / "checkpoint"))
    said = subprocess.run(
        [script("torchrun"), "--standalone", "--nproc-per-node", "2", EXAMPLE, "--epochs", "2", *checkpoint],
        env=clean(None),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert said.returncode == 0, said.stderr
    assert "epoch 2 of 2" in said.stdout


def test_all_start_again_when_rank_0_was_killed(tmp_path: Path) -> None:
    """On the address of its next incarnation, and from the checkpoint; no other process counts as crashed."""
    options = ("local", "--worker", "3", "--max-restarts", "2", "--emit", "torch", "--", sys.executable, EXAMPLE)
    with psbarrier(tmp_path, None, *options, "--epochs", "100", "--checkpoint", str(tmp_path / "checkpoint")) as job:
        assert says(job, "epoch 5 of"), job.text
        (victim,) = told(job, r"rank 0 of 3, pid (\d+)")
        os.kill(int(victim[1]), signal.SIGKILL)
        assert job.process.wait(PATIENCE) == 0, job.text
        for rank in range(3):
            assert len(told(job, rf"rank {rank} of 3, pid (\d+)")) >= 2, job.text
        resumed = [int(epoch) for _, epoch in told(job, r"goes on after epoch (\d+)")]
        assert resumed
        assert all(5 <= epoch < 100 for epoch in resumed)
        assert len(told(job, r"epoch 100 of 100: loss .*")) == 1
        assert re.search(r"worker/0 crashed: its command was killed by SIGKILL", job.err)


@pytest.mark.parametrize("command", [(sys.executable,), (script("torchrun"),)], ids=["python", "torchrun"])
def test_an_ipv6_address_is_taken_as_it_is_emitted(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Both as MASTER_ADDR and as an argument of torchrun."""
    (port,) = free_ports(1)
    spec = ClusterSpec.from_addresses({"worker": [f"[::1]:{port}"]})
    path = tmp_path / "program.py"
    path.write_text(f"import os\nprint(os.environ['MASTER_ADDR'], os.environ['MASTER_PORT'])\n{SUM}")
    said = subprocess.run(
        [*command, str(path)],
        env={**clean(None), **spec.env("torch", Task("worker", 0))},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert said.stdout == f"::1 {port}\nrank 0 local 0 sum 0\n", said.stderr
