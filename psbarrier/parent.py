"""Parent: the process that started this one, and the news of its end."""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

_POLL = 0.1
"""Seconds between two looks where the kernel does not tell of another process's end."""

_ENDING = 0.3
"""Seconds in which a process that closed its pipes has ended; the news of its end should come in half a second."""
_GLANCE = 0.005


class Parent:
    """Watches the parent `pid`, which holds the other end of the pipe that is read at `pipe`.

    A parent that is gone already counts as ended. A pipe that closes without "end" is an end too: what held it was
    replaced by another program.
    """

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe
        self._said = b""
        self._handle: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # neither on macOS nor in some containers
            self._handle = os.pidfd_open(pid)
        # Asked only now, so that a number which another process has got since is not watched.
        self._orphaned = os.getppid() != pid

    def gone(self, seconds: float) -> bool | None:
        """Wait so long for news: True when the parent has ended, False when it has said "end", None when there is none."""
        watched = [self._pipe] if self._handle is None else [self._pipe, self._handle]
        wait = seconds if self._handle is not None else min(seconds, _POLL)
        readable, _, _ = select.select(watched, [], [], 0 if self._orphaned else wait)
        if self._pipe in readable:
            said = os.read(self._pipe, 4096)
            self._said += said
            if self._said.endswith(b"end\n"):
                return False
            if not said:
                return True
        if self._orphaned or self._handle in readable or os.getppid() != self.pid:
            return True
        return None

    def status(self) -> int | None:
        """How it ended: its exit code, or -N for signal N; None when that is not known, as after it was reaped.

        From /proc (proc_pid_stat(5), exit_code), which tells it of a process that its own parent has not reaped yet. A
        process that is just ending closes its pipes first, so it is given a moment.
        """
        until = time.monotonic() + _ENDING
        with contextlib.suppress(OSError, ValueError, IndexError):
            while time.monotonic() < until:
                fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] in (b"Z", b"X"):
                    return os.waitstatus_to_exitcode(int(fields[49]))
                time.sleep(_GLANCE)
        return None
