"""The digits example under `psbarrier local`: a killed ps is started again, or the whole job ends and says why."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from digits_job import EXAMPLE, TASKS, accuracy, clean_environment, cluster_lines
from helpers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MIDDLE = "epoch 20 of"


class Local:
    """A `psbarrier local` of the example that runs, and what it has written."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process, self._path = process, path

    @property
    def text(self) -> str:
        return self._path.read_text()

    def of(self, task: str) -> str:
        """What one task has said, without the label."""
        return "\n".join(re.findall(rf"^\[{task}\] (.*)$", self.text, re.MULTILINE))

    def kill(self, task: str) -> None:
        """End the latest command of a task with SIGKILL, once the training is in the middle."""
        assert eventually(lambda: MIDDLE in self.text, 60), self.text
        os.kill(int(re.findall(rf"{task} pid (\d+)", self.text)[-1]), signal.SIGKILL)

    def result(self) -> int:
        return self.process.wait(120)


@contextmanager
def local(folder: Path, *options: str, epochs: int) -> Iterator[Local]:
    """Start two ps and four workers; whatever happens, they end with this block."""
    path = folder / "output.txt"
    command = [
        sys.executable,
        "-c",
        "from psbarrier.cli.main import main; main()",
        "local",
        "--ps",
        "2",
        "--worker",
        "4",
    ]
    with path.open("wb") as output:
        process = subprocess.Popen(
            [*command, *options, "--", sys.executable, str(EXAMPLE)],
            env=clean_environment(DIGITS_EPOCHS=str(epochs)),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Local(process, path)
    finally:
        process.terminate()
        process.wait(60)


def test_the_whole_job_runs_with_one_command(tmp_path: Path) -> None:
    """It trains, every ps ends by itself, and the command ends with 0."""
    with local(tmp_path, epochs=20) as job:
        assert job.result() == 0, job.text
        assert accuracy(job.text) >= 0.93
        assert len(set(cluster_lines(job.text))) == 1
        assert all("the job has succeeded" in job.of(task) for task in ("ps/0", "ps/1"))


@pytest.mark.parametrize(
    "victim", ["ps/0", "worker/3", *(pytest.param(other, marks=pytest.mark.slow) for other in ("ps/1", "worker/0"))]
)
def test_a_killed_task_is_started_again_and_the_training_goes_on(tmp_path: Path, victim: str) -> None:
    """The second incarnation has another address, and is in the second epoch's spec."""
    with local(tmp_path, "--max-restarts", "1", epochs=100) as job:
        job.kill(victim)
        assert job.result() == 0, job.text
        assert accuracy(job.text) >= 0.93
        assert len(re.findall(r" pid \d+", job.of(victim))) == 2
        assert "cluster: epoch 2 " in job.of(victim)
        if victim.startswith("ps/"):
            assert all("cluster: epoch 2 " in job.of(task) for task in TASKS if task.startswith("worker/")), job.text


def test_without_restarts_a_killed_ps_ends_everything(tmp_path: Path) -> None:
    """Soon, with an error: each of the others names the task, what became of it, and when."""
    with local(tmp_path, epochs=1000) as job:
        job.kill("ps/0")
        assert job.result() not in (0, None), job.text
        when = r"ps/0 crashed: its command was killed by SIGKILL at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        for task in set(TASKS) - {"ps/0"}:
            assert re.search(when, job.of(task)), f"{task} does not say why it ends:\n{job.text}"
        assert re.search(rf"^psbarrier: job 'local' .*failed.*{when}", job.text, re.MULTILINE)
        assert "test accuracy" not in job.text
