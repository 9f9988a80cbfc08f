"""What several test files need to watch processes and to wait for them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path


def eventually(predicate: Callable[[], object], timeout: float = 30.0) -> bool:
    """Whether `predicate` becomes true within `timeout` seconds; returns as soon as it does."""
    pause = threading.Event()
    polls = int(timeout / 0.02) + 1
    return any(predicate() or pause.wait(0.02) for _ in range(polls))


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
    """Every process of this machine: its parent's process id and its command line."""
    listing = subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,command="], stdout=subprocess.PIPE, text=True)
    text, _ = listing.communicate()
    rows = (line.split(None, 2) for line in text.splitlines())
    return {int(row[0]): (int(row[1]), row[2]) for row in rows if len(row) == 3 and int(row[0]) != listing.pid}
