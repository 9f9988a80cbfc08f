"""Processes that import everything they need, say "ready", and then do the same thing at the same moment.

They talk in lines: what a process says begins with a word and goes on with values. See party.py for their side.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen

ROOT = Path(__file__).parents[1]
PATIENCE = 600.0  # seconds for a line of each; a loaded machine takes minutes to import large packages
# Seconds until all have read when to begin, for all of them and for each.
_LEAD, _LEAD_EACH = 0.02, 0.001


class GroupError(RuntimeError):
    """A process of a group did not say what it had to; `brief` says which, and `str()` its last words too."""

    def __init__(self, brief: str, last_words: str) -> None:
        super().__init__(f"{brief}:\n{last_words}")
        self.brief = brief


@frozen
class Moments:
    """When each process began and ended an action, in seconds of the machine's monotonic clock."""

    began: tuple[float, ...]
    ended: tuple[float, ...]

    @property
    def span(self) -> float:
        """Seconds from the first that began to the last that ended."""
        return max(self.ended) - min(self.began)


class Group:
    """One process for each of `argument_lists`, all of the module `program`, as a context manager.

    All have said "ready" when the block begins, and are gone when it is left. `wrapper` is a command that runs each, and
    `patience` how many seconds all may take for what they have to say.
    """

    def __init__(
        self,
        program: str,
        argument_lists: Sequence[Sequence[object]],
        *,
        wrapper: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._names = [" ".join(map(str, [program, *arguments])) for arguments in argument_lists]
        python = [*wrapper, sys.executable, "-W", "ignore", "-m", program]
        self._commands = [[*python, *map(str, arguments)] for arguments in argument_lists]
        self._environment = {**os.environ, **(variables or {})}
        self._patience = patience
        self.processes: list[subprocess.Popen[str]] = []

    def __len__(self) -> int:
        return len(self._commands)

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        try:
            for command in self._commands:
                self._start(command)
            self.hear("ready")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, command: Sequence[str]) -> None:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )
        self.processes.append(process)

    def say(self, *words: object) -> None:
        """Let all go on."""
        line = " ".join(map(str, words)) + "\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()

    def hear(self, word: str) -> list[list[str]]:
        """A line of each, which begins with `word`; what follows in it.

        Raises GroupError when one says something else, ends, or says nothing for too long.
        """
        watchdog = threading.Timer(self._patience, self._kill)
        watchdog.start()
        try:
            return [self._hear(index, word) for index in range(len(self.processes))]
        finally:
            watchdog.cancel()

    def _hear(self, index: int, word: str) -> list[str]:
        process = self.processes[index]
        assert process.stdout is not None
        line = process.stdout.readline()
        found = line.split()
        if found[:1] != [word]:
            self._errors.seek(0)
            words = self._errors.read().strip()[-2000:]
            name = self._names[index]
            raise GroupError(f"process {index} of {len(self)} ({name}) said {line!r}, not {word!r}", words)
        return found[1:]

    def together(self, action: str) -> Moments:
        """Let all perform `action` at the same moment, and wait until all have."""
        self.say(action, time.monotonic() + _LEAD + _LEAD_EACH * len(self))
        times = self.hear("done")
        return Moments(tuple(float(began) for began, _ in times), tuple(float(ended) for _, ended in times))

    def close(self) -> None:
        """End all, by the end of their input, and after 30 seconds with SIGKILL. Idempotent."""
        for process in self.processes:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # it has ended already
                    process.stdin.close()
        watchdog = threading.Timer(30.0, self._kill)
        watchdog.start()
        for process in self.processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        watchdog.cancel()
        self._errors.close()

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()
