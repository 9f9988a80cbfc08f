"""What several test files need to watch processes and to wait for them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def eventually(predicate: Callable[[], object], timeout: float = 30.0) -> bool:
    """Whether `predicate` becomes true within `timeout` seconds; returns as soon as it does."""
    pause = threading.Event()
    polls = int(timeout / 0.02) + 1
    return any(predicate() or pause.wait(0.02) for _ in range(polls))


@contextmanager
def python(code: str, *args: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs `code`; a test that fails does not wait for it, but ends it."""
    with subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not: in a container nobody may ever reap an orphan."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        # The state stands after the command's name, which is in parentheses and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def processes() -> dict[int, tuple[int, str]]:
    """Every process of this machine: its parent's process id and its whole command line, however wide the terminal."""
    listing = subprocess.Popen(["ps", "-A", "-ww", "-o", "pid=,ppid=,command="], stdout=subprocess.PIPE, text=True)
    text, _ = listing.communicate()
    rows = (line.split(None, 2) for line in text.splitlines())
    return {int(row[0]): (int(row[1]), row[2]) for row in rows if len(row) == 3 and int(row[0]) != listing.pid}
