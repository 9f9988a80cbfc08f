"""The examples as whole jobs of real processes, and whoever starts a task again when it has crashed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.helpers import MAIN, clean
from helpers import eventually

from psbarrier.embedded import EtcdServer
from psbarrier.spec import Replicas

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PATIENCE = 600.0
"""Seconds. Five processes that each import a framework take a minute on two cores, and far longer where others work."""

# Many processes share this machine.
_QUIET = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "1", "TF_NUM_INTRAOP_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def program(example: str, *args: str) -> tuple[str, ...]:
    """How an example is started."""
    return sys.executable, str(EXAMPLES / example), *args


def local(replicas: str, form: str, *command: str, **settings: str) -> str:
    """What `psbarrier local` says while it runs a job to its success."""
    job = subprocess.run(
        [*MAIN, "local", "--replicas", replicas, "--emit", form, "--", *command],
        env={**clean(None), **_QUIET, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert job.returncode == 0, job.stdout
    return job.stdout


class Crew:
    """One process for each task, made by `argv`, with `settings` and what `own` says of the task in its environment.

    A context manager; leaving it leaves none of them behind.
    """

    def __init__(
        self, folder: Path, etcd: EtcdServer, replicas: str, argv: Callable[[str], tuple[str, ...]], **settings: str
    ) -> None:
        self.tasks = [str(task) for task in Replicas.of(replicas).tasks()]
        self._folder, self._argv = folder, argv
        self._environment = {**clean(etcd), **_QUIET, **settings}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._outputs: dict[str, list[Path]] = {task: [] for task in self.tasks}

    def __enter__(self) -> Self:
        for task in self.tasks:
            self.start(task)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():  # `psbarrier run` ends its command when it is asked to
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if error is not None:
            error.add_note(self.everything)

    def start(self, task: str) -> None:
        """Start the task, or start it again."""
        path = self._folder / f"{task.replace('/', '-')}.{len(self._outputs[task])}.txt"
        self._outputs[task].append(path)
        with path.open("wb") as output:
            role, _, index = task.partition("/")
            own = {"PSBARRIER_ROLE": role, "PSBARRIER_INDEX": index}
            self._processes[task] = subprocess.Popen(
                self._argv(task), env=self._environment | own, stdout=output, stderr=subprocess.STDOUT
            )

    def texts(self, task: str) -> list[str]:
        """What each process that was started for the task has written."""
        return [path.read_text(errors="replace") for path in self._outputs[task]]

    @property
    def everything(self) -> str:
        """For whoever has to find out why a test failed."""
        return "\n".join(f"--- {task}\n" + "\n---\n".join(self.texts(task)) for task in self.tasks)

    def await_words(self, task: str, words: str) -> None:
        """Return once the task's latest process has written what `words`, a pattern, describes."""
        assert eventually(lambda: re.search(words, self.texts(task)[-1]), PATIENCE), f"{task} never said {words!r}"

    def pid(self, task: str) -> int:
        """The process id that the task's program has printed last."""
        return int(re.findall(r"pid (\d+)", self.texts(task)[-1])[-1])

    def kill(self, task: str) -> None:
        """End the task's program as its machine's failure would: it can say nothing any more. It is not started again."""
        os.kill(self.pid(task), signal.SIGKILL)
        assert self._processes.pop(task).wait(PATIENCE) != 0

    @contextmanager
    def frozen(self, task: str) -> Iterator[None]:
        """Meanwhile the task's program does nothing."""
        pid = self.pid(task)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def finish(self) -> Mapping[str, int]:
        """Start each task that ends with an error again, until all have ended well; how often each was started."""
        until, pause = time.monotonic() + PATIENCE, threading.Event()
        while self._processes and time.monotonic() < until:
            for task, process in list(self._processes.items()):
                if process.poll() is not None:
                    del self._processes[task]
                    if process.returncode:
                        self.start(task)
            pause.wait(0.1)
        assert not self._processes, f"{sorted(self._processes)} did not end in {PATIENCE} s"
        return {task: len(outputs) for task, outputs in self._outputs.items()}
