"""The digits example as a job of real processes, started one by one as a person would: with environment variables only."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from helpers import eventually

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "digits_ps.py"
TASKS = ("ps/0", "ps/1", "worker/0", "worker/1", "worker/2", "worker/3")


def clean_environment(**more: str) -> dict[str, str]:
    """Ours, without any setting of psbarrier, and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PSBARRIER_")} | more


def cluster_lines(text: str) -> list[str]:
    """What a process said about the cluster, one line for each epoch that it has seen."""
    return re.findall(r"cluster: epoch .*", text)


def accuracy(text: str) -> float:
    """The accuracy that worker/0 has reported."""
    found = re.search(r"test accuracy: (\S+)", text)
    assert found, text
    return float(found[1])


class DigitsProcess:
    """One process of the job; its output goes to a file, and a thread notes when it ends."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self.path = path
        self.ended = 0.0
        with path.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(EXAMPLE)], env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        self.process.wait()
        self.ended = time.monotonic()

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.path.read_text()

    def says(self, words: str, timeout: float = 60.0) -> bool:
        """Whether it writes `words` within `timeout` seconds, and before it ends."""
        return eventually(lambda: words in self.text or self.ended, timeout) and words in self.text

    def kill(self) -> None:
        """End it as a crash of its machine would: it can say nothing any more."""
        self.process.kill()
        self._watcher.join()

    def result(self, timeout: float = 90.0) -> int:
        """Its exit code."""
        self._watcher.join(timeout)
        assert not self._watcher.is_alive(), f"{self.path.name} did not end in {timeout} s:\n{self.text}"
        return self.process.returncode


class DigitsJob:
    """The six processes. A context manager; leaving it leaves none of them behind."""

    def __init__(self, folder: Path, endpoint: str, name: str, **settings: str) -> None:
        self._folder = folder
        self._environment = clean_environment(
            PSBARRIER_ENDPOINTS=endpoint, PSBARRIER_JOB=name, PSBARRIER_REPLICAS="ps=2,worker=4", **settings
        )
        self._started: list[DigitsProcess] = []
        self.processes: dict[str, DigitsProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()

    def __getitem__(self, task: str) -> DigitsProcess:
        return self.processes[task]

    def start(self, *tasks: str) -> None:
        """Start these tasks; each takes the place of a process that had the task before."""
        for task in tasks:
            role, _, index = task.partition("/")
            path = self._folder / f"{role}-{index}.{len(self._started)}.txt"
            environment = self._environment | {"PSBARRIER_ROLE": role, "PSBARRIER_INDEX": index}
            self.processes[task] = DigitsProcess(path, environment)
            self._started.append(self.processes[task])

    def start_apart(self, seed: int, longest: float = 5.0) -> None:
        """Start all tasks in a random order, the last one `longest` seconds after the first."""
        draw = random.Random(seed)
        order = draw.sample(TASKS, len(TASKS))
        moments = [0.0, *sorted(draw.uniform(0.0, longest) for _ in order[2:]), longest]
        pause, began = threading.Event(), time.monotonic()
        for task, moment in zip(order, moments, strict=True):
            pause.wait(max(0.0, began + moment - time.monotonic()))
            self.start(task)

    def results(self) -> dict[str, int]:
        """Every task's exit code, once all have ended."""
        return {task: self.processes[task].result() for task in TASKS}

    @property
    def everything(self) -> str:
        """What every task has said, for whoever has to find out why a test failed."""
        return "\n".join(f"--- {task}\n{process.text}" for task, process in self.processes.items())
