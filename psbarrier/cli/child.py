"""Child: the user's command, in a session of its own, which ends with the command, or with us.

The order that leaves no gap: the process first is a small gate that waits for one byte from us; it becomes the command
only after the sitter knows its process group. If we die before, the gate reads the end of its input and exits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from psbarrier.sitter import Sitter

REST = 1.0
"""Seconds that what the command leaves behind in its group gets after SIGTERM."""
_SITTER_GRACE = 2.0
_POLL = 0.01
_HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# A Python and not a shell: shells drop variables whose names are no identifiers, and change others.
_GATE = """
import os, signal, sys
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
if os.read(int(sys.argv[1]), 1):
    os.close(int(sys.argv[1]))
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        os.write(2, os.fsencode(f"psbarrier: {sys.argv[2]} cannot be started: {error.strerror}\\n"))
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""


class Child:
    """One run of the command. `wait` and then `clear` are called once each; the other methods are safe from any thread.

    `stdin`, `stdout` and `stderr` are file descriptors, or None for ours. Raises OSError when it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        sitter: Sitter,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self._sitter = sitter
        self._lock = threading.Lock()
        self._reaped = False
        self._killed = threading.Event()
        self._kill_at: float | None = None
        ours, theirs = os.pipe()
        # The gate inherits this thread's mask, so what is sent to it early waits until it is ready to die of it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GATE, str(ours), *command],
                env=dict(environment),
                pass_fds=[ours],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                sitter.guard(self.pid, grace=_SITTER_GRACE)
            except OSError:  # the sitter was killed: what nobody looks after must not start
                self._process.kill()
                self._process.wait()
                raise
            with contextlib.suppress(BrokenPipeError):  # a gate that was killed is noticed like a command that was
                os.write(theirs, b"!")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(ours)
            os.close(theirs)

    @property
    def pid(self) -> int:
        """Its process id, and the number of its process group."""
        return self._process.pid

    def wait(self) -> int:
        """Wait until the command itself has ended, and return its code, or -N for signal N.

        It is the process that is waited for and not a pipe, which forked helpers may hold open for much longer.
        """
        if sys.platform == "linux":
            # While its status is not collected, its number, which is the group's too, means nobody else.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        self._signal_group(signal.SIGTERM)
        with self._lock:
            code = self._process.wait()
            self._reaped = True
        return code

    def clear(self) -> None:
        """End what the command left behind, which has been asked to end: the next incarnation may need its ports."""
        self._end_rest()
        self._sitter.forget(self.pid)

    def send(self, number: int) -> None:
        """Send a signal to the command alone: what it started is its own to stop, a data loader before a checkpoint."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if not self._reaped:
                os.kill(self.pid, number)

    def allow(self, grace: float) -> None:
        """The command, which knows that it is to end, has so many seconds: whoever called this calls `kill` at `kill_at`."""
        self._kill_at = time.monotonic() + grace

    def end(self, number: int, grace: float) -> None:
        """Ask the command to end within `grace` seconds, as for `allow`."""
        self.allow(grace)
        self.send(number)
        self.send(signal.SIGCONT)  # a stopped process hears it only once it goes on

    def kill(self) -> None:
        """End the command and all of its group at once."""
        self._kill_at = None
        self._killed.set()
        with self._lock:
            if not self._reaped:
                self._signal_group(signal.SIGKILL)

    @property
    def kill_at(self) -> float | None:
        """When `kill` is due, by time.monotonic(); None when nobody has asked the command to end."""
        return self._kill_at

    def _end_rest(self) -> None:
        """End what the command left behind; it has as long as the command would have had."""
        until = max(time.monotonic() + REST, self._kill_at or 0.0)
        while self._signal_group(0):
            if time.monotonic() >= until or self._killed.is_set():
                self._signal_group(signal.SIGKILL)
                return
            self._killed.wait(_POLL)

    def _signal_group(self, number: int) -> bool:
        """False when nobody is left in the group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS refuses to signal a group of zombies
            return False
        return True
