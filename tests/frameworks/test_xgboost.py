"""XGBoost: its collective, whose tracker runs beside rank 0, each task below a `psbarrier run`, and one of them killed.

It is rank 0, which comes back on another port: the tracker does not let a port be used again until a minute after.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli.helpers import Command, psbarrier, run_args, unique
from helpers import processes

from frameworks.helpers import PATIENCE, program, says
from psbarrier.embedded import EtcdServer, free_ports

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]

TRAIN = """
import hashlib, os, signal, time
import numpy as np, xgboost
from xgboost.tracker import RabitTracker

size, task, epoch = int(os.environ["DMLC_NUM_WORKER"]), os.environ["DMLC_TASK_ID"], os.environ["PSBARRIER_EPOCH"]
host, port = os.environ["DMLC_TRACKER_URI"], int(os.environ["DMLC_TRACKER_PORT"])
tracker = None
if int(task) == 0:
    tracker = RabitTracker(n_workers=size, host_ip=host, port=port, sortby="task")
    tracker.start()
with xgboost.collective.CommunicatorContext(dmlc_tracker_uri=host, dmlc_tracker_port=port, dmlc_task_id=task):
    rank = xgboost.collective.get_rank()
    inputs = np.random.default_rng(rank).normal(size=(100, 3))
    model = xgboost.train({"nthread": 1}, xgboost.DMatrix(inputs, inputs.sum(axis=1)), num_boost_round=3)
    digest = hashlib.sha256(model.save_raw("json")).hexdigest()
    print(f"epoch {epoch} rank {rank} task {int(task)} model {digest};", flush=True)
    while epoch == "1":
        time.sleep(0.1)
if tracker is not None:
    tracker.wait_for()
"""
SIZE = 3


def children(task: Command) -> list[int]:
    """The processes that a `psbarrier run` has started for its command."""
    return [pid for pid, (parent, line) in processes().items() if parent == task.process.pid and "xgboost" in line]


def test_all_start_again_when_one_was_killed(etcd: EtcdServer, tmp_path: Path) -> None:
    """Each rank is its task's, and all train the same model, from different data, before and after."""
    job, victim = unique(), 0
    ports = free_ports(SIZE + 1)

    def arguments(index: int, port: int) -> tuple[str, ...]:
        options = ("--emit", "xgboost", "--max-restarts", "1", "--index", str(index), "--address", f"127.0.0.1:{port}")
        return (*run_args(job, *options, replicas=f"worker={SIZE}")[:-1], *program(TRAIN))

    with ExitStack() as stack:
        tasks = [
            stack.enter_context(psbarrier(tmp_path, etcd, *arguments(index, ports[index]))) for index in range(SIZE)
        ]
        for task in tasks:
            assert says(task, "epoch 1"), task.text
        first = {task.out.split()[-1] for task in tasks}
        (child,) = children(tasks[victim])
        os.kill(child, signal.SIGKILL)
        assert tasks[victim].process.wait(PATIENCE) == 137
        tasks[victim] = stack.enter_context(psbarrier(tmp_path, etcd, *arguments(victim, ports[SIZE])))
        for index, task in enumerate(tasks):
            assert task.process.wait(PATIENCE) == 0, task.text
            assert f"epoch 2 rank {index} task {index} model" in task.out, task.text
        assert {task.out.split()[-1] for task in tasks} == first
        assert len(first) == 1
