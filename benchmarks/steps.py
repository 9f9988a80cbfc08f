"""Where the processor time of a process goes: by kind of thread, and in the thread that does psbarrier's calls by step.

benchmarks/barriers/profiled.py and benchmarks/starts/profiled.py are such processes.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.result import Result

CALLER = "psbarrier-call"
"""The thread that does what the main thread asks for."""
REST = "all else of the call"
OTHERS = "threads: all others, one of gRPC for each connection among them"
Place = tuple[Any, str]
"""Where a step is done: an object, and the name of its function."""


class Steps:
    """Seconds of processor that the calling thread spent in each of `places`, by name, and in all else.

    A step that is done in the middle of another counts for itself alone. The functions are replaced by ones that count, which
    take about ten microseconds more.
    """

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = 0.0
        for name, (owner, attribute) in places.items():
            setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread().name != CALLER or name in self._open:
                return function(*args, **kwargs)
            self._pass()
            self._open.append(name)
            try:
                return function(*args, **kwargs)
            finally:
                self._pass()
                self._open.pop()

        return call

    def _pass(self) -> None:
        """What passed since the last time belongs to the innermost step that is open."""
        now = time.thread_time()
        self.seconds[self._open[-1] if self._open else REST] += now - self._last
        self._last = time.thread_time()


def by_thread(rows: Mapping[str, str]) -> dict[str, float]:
    """Seconds of processor that this process's threads have taken so far, by the row that a thread's name has in `rows`.

    Those that Python does not know have the name "".
    """
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    used: dict[str, float] = defaultdict(float)
    for thread, seconds in machine.thread_seconds().items():
        used[rows.get(names.get(thread, ""), OTHERS)] += seconds
    return used


class Profile:
    """What this process takes from `begin()` on, in the parts that `parts()` names."""

    def __init__(self, places: Mapping[str, Place], rows: Mapping[str, str]) -> None:
        self._steps, self._rows = Steps(places), rows
        self._parts = parts(places, rows)
        self._before: dict[str, float] = {}

    def begin(self) -> None:
        """What was taken before does not count."""
        self._steps.seconds.clear()
        self._before = by_thread(self._rows)

    def spent(self) -> list[float]:
        """Seconds of processor, part by part."""
        used = {name: seconds - self._before.get(name, 0.0) for name, seconds in by_thread(self._rows).items()}
        used |= self._steps.seconds
        return [used.get(name, 0.0) for name in self._parts]


def parts(places: Mapping[str, Place], rows: Mapping[str, str]) -> tuple[str, ...]:
    """The names of all that is told apart: steps, and kinds of thread."""
    return (*places, REST, *rows.values(), OTHERS)


def results(names: Sequence[str], said: Iterable[Sequence[str]]) -> list[Result]:
    """The parts as results, with what each process has said of itself as a sample."""
    columns = zip(*(map(float, seconds) for seconds in said), strict=True)
    return [Result(name, {}, "s", samples) for name, samples in zip(names, columns, strict=True)]
