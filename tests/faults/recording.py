"""Recording: what a process did, as lines of JSON that are in the kernel before the next step, so that SIGKILL loses none.

Times are seconds of CLOCK_BOOTTIME, which all processes of a machine share.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")

BEAT = 0.02
"""Seconds between two looks at the clock."""
LATE = 0.02
"""Seconds by which a look must be late to be worth a line."""


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """A file of such lines, for one process; safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **fields: Any) -> None:
        os.write(self._file, (json.dumps(fields) + "\n").encode())


class Recorder(Journal):
    """Records calls: a line when one begins, another when it ends. A call without an end is one that never ended."""

    def __init__(self, path: Path, **who: Any) -> None:
        super().__init__(path)
        self._numbers = itertools.count(1)
        self.write(what="process", pid=os.getpid(), at=now(), **who)
        threading.Thread(target=self._look, name="lateness", daemon=True).start()

    def call(self, name: str, limit: float | None, action: Callable[[], R], **args: Any) -> R:
        """What `action` returns or raises; it promises to end within `limit` seconds."""
        number = next(self._numbers)
        self.write(what="call", id=number, name=name, begin=now(), limit=limit, args=args)
        try:
            result = action()
        except BaseException as error:
            text = f"{error}"[:300]
            kinds = [kind.__name__ for kind in type(error).__mro__[:-1]]
            self.write(what="raised", id=number, end=now(), error=kinds[0], kinds=kinds, text=text)
            raise
        self.write(what="returned", id=number, end=now(), result=_plain(result))
        return result

    def _look(self) -> None:
        """Measure how late this process is: starved by others, stopped, or kept from running by its own main thread."""
        never = threading.Event()
        while True:
            planned = now() + BEAT
            never.wait(BEAT)
            late = now() - planned
            if late > LATE:
                self.write(what="late", since=planned, until=planned + late)


def _plain(result: Any) -> Any:
    return result if result is None or isinstance(result, bool | int | float | str | list | dict) else str(result)
