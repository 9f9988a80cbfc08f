"""A small process that cleans up after its parent, however the parent ends, SIGKILL included.

`Sitter` is the parent's side; the same file, run as a script, is the process. It imports nothing of psbarrier, so that
it starts fast, and it lives in a session of its own and ignores the signals that people and terminals send, so that
what ends the parent does not end it too. The parent tells it, over a pipe, what there is to clean up:

    group PGID GRACE     end this process group: SIGTERM, SIGKILL after GRACE seconds (0: SIGKILL at once)
    spare PGID           should the parent die, this one goes on: wait for its end, do not cause it
    done PGID            that group was reaped, forget it
    folder HEX           remove this folder (its path, as hexadecimal bytes) after the groups are gone
    end                  the parent is done: clean up what is left

The end of the pipe means "end" too, and so does a new parent process id: a forked child of the parent may hold the pipe
open longer than the parent lives. Nothing can be lost between the two sides: a line that was written is in the kernel,
and is read before the end of the pipe is.

Limits. Process ids are used again by the system: between the moment a group's last process is reaped and `forget`, or
the sitter's own signal, a new group could in principle carry the old number. A SIGKILL to the sitter itself and then
one to the parent leave everything behind.
"""

from __future__ import annotations

import contextlib
import glob
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL = 0.02  # seconds between two looks at what is being ended
_PARENT_POLL = 1.0  # seconds between two looks at who the parent is
_SPARED_POLL = 1.0  # seconds between two looks at whether what was spared still runs
_REMOVE_FOR = 5.0  # seconds for which a folder that keeps filling up is removed again
_AFTER_KILL = 2.0  # seconds to wait for killed groups, which may hang in the kernel
_CLOSING = 30.0  # seconds that the parent waits for the sitter, whose folders may hang in the kernel too


class Sitter:
    """The parent's side. Each method returns once the sitter is certain to act on it, even if this process dies next.

    Not inherited by a fork: in a child process every method does nothing.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        command = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(self._owner)]
        # A child starts with this thread's signal mask, so no signal reaches the sitter before it ignores them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    @property
    def pid(self) -> int:
        """The sitter's own process id."""
        return self._process.pid

    def guard(self, pgid: int, *, grace: float = 2.0) -> None:
        """From now on the group `pgid` ends with this process, `grace` seconds after a SIGTERM at the latest.

        Raises BrokenPipeError when the sitter is gone or was closed, and ValueError for a group that nobody may end.
        """
        if pgid <= 1:
            raise ValueError(f"{pgid} is not a process group that a sitter may end; pass the group of a child.")
        self._say(f"group {pgid} {grace}")

    def spare(self, pgid: int) -> None:
        """The guarded group does not end with this process; the folders still stay as long as it runs."""
        with contextlib.suppress(BrokenPipeError):
            self._say(f"spare {pgid}")

    def forget(self, pgid: int) -> None:
        """The group has been reaped: leave its number alone. Call it at once, since the system may use it again."""
        with contextlib.suppress(BrokenPipeError):
            self._say(f"done {pgid}")

    def folder(self, path: str | os.PathLike[str]) -> None:
        """Remove `path` and all below it when this process has ended; it need not exist yet, or any more.

        Raises BrokenPipeError when the sitter is gone or was closed.
        """
        self._say(f"folder {os.fsencode(os.path.abspath(path)).hex()}")

    def close(self) -> None:
        """Let the sitter end what is still guarded and remove its folders, and wait until it has, for 30 s at most: it goes
        on by itself. Idempotent."""
        if self._owner != os.getpid():
            return
        with contextlib.suppress(BrokenPipeError):
            self._say("end")
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSING)

    def _say(self, line: str) -> None:
        if self._owner != os.getpid():
            return
        pipe = self._process.stdin
        with self._lock:
            if pipe is None or pipe.closed:
                raise BrokenPipeError("The sitter was closed; start another one.")
            pipe.write(line.encode("ascii") + b"\n")


class _Duty:
    """The process's side: what it was told, and how it cleans up."""

    def __init__(self) -> None:
        self.groups: dict[int, float] = {}
        self.spared: dict[int, float] = {}
        self.folders: list[str] = []
        self.ended = False

    def hear(self, line: bytes) -> None:
        match line.split():
            case [b"group", pgid, grace] if int(pgid) > 1:
                self.groups[int(pgid)] = float(grace)
            case [b"spare", pgid]:
                if int(pgid) in self.groups:
                    self.spared[int(pgid)] = self.groups.pop(int(pgid))
            case [b"done", pgid]:
                self.groups.pop(int(pgid), None)
                self.spared.pop(int(pgid), None)
            case [b"folder", path]:
                self.folders.append(os.fsdecode(bytes.fromhex(path.decode("ascii"))))
            case [b"end"]:
                self.ended = True
                self.groups |= self.spared  # the parent lives, and wants everything to end
                self.spared = {}

    def listen(self, fd: int, parent: int) -> None:
        """Return when the parent is gone or done. A last line without its newline was never finished: drop it."""
        rest = b""
        while not self.ended:
            readable, _, _ = select.select([fd], [], [], _PARENT_POLL)
            if readable:
                chunk = os.read(fd, 65536)
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.hear(line)
            elif os.getppid() != parent:
                return

    def end_groups(self) -> None:
        start = time.monotonic()
        for pgid, grace in self.groups.items():
            _signal(pgid, signal.SIGTERM if grace > 0 else signal.SIGKILL)
            _signal(pgid, signal.SIGCONT)  # a stopped process hears SIGTERM only once it goes on
        overdue: set[int] = set()
        while left := {pgid: grace for pgid, grace in self.groups.items() if _runs(pgid)}:
            waited = time.monotonic() - start
            for pgid in [pgid for pgid, grace in left.items() if waited >= grace]:
                _signal(pgid, signal.SIGKILL)
                overdue.add(pgid)
            if overdue >= left.keys() and waited >= max(left.values()) + _AFTER_KILL:
                return
            time.sleep(_POLL)

    def await_spared(self) -> None:
        while any(_runs(pgid) for pgid in self.spared):
            time.sleep(_SPARED_POLL)

    def remove_folders(self) -> None:
        """Again and again: a process that is just ending may still write its last file."""
        until = time.monotonic() + _REMOVE_FOR
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
            while os.path.lexists(folder) and time.monotonic() < until:
                time.sleep(_POLL)
                shutil.rmtree(folder, ignore_errors=True)


def _signal(pgid: int, number: int) -> bool:
    """False for a group that is gone, consists of zombies (on macOS), or is not ours any more."""
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _runs(pgid: int) -> bool:
    """Whether a process of the group runs. Linux counts zombies too, and some are never reaped: look at the states."""
    if not _signal(pgid, 0):
        return False
    states = list(_states(pgid))
    return not states or any(state not in "ZX" for state in states)


def _states(pgid: int) -> Iterator[str]:
    """The states of the group's processes, as far as /proc tells: nothing on macOS."""
    for stat in glob.iglob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(stat, "rb") as file:
            # The command's name stands in parentheses before these, and may hold anything.
            state, _, group = file.read().rpartition(b")")[2].split()[:3]
            if int(group) == pgid:
                yield state.decode("ascii")


def main(parent: int) -> None:
    """Sit until `parent` has gone, then clean up."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    duty = _Duty()
    duty.listen(0, parent)
    duty.end_groups()
    duty.await_spared()
    duty.remove_folders()


if __name__ == "__main__":
    main(int(sys.argv[1]))
