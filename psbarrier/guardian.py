"""The guardian: a small process that holds the lease for the one that trains.

A training step may keep Python's GIL for a minute, and the thread that keeps the lease alive in that process starves. And
when that process is killed, the others learn it only when the lease has run out. The guardian has an interpreter of its
own, so it beats, and leads when the task leads; and the kernel tells it at once when its process has ended, however that
happened, so it can tell the others.

This is the side of the process that is guarded; psbarrier/guardian_process.py is the guardian. It is started as a fresh
interpreter and never forked, for gRPC does not survive that. It is told everything through a pipe: first what to hold and
where (one line of JSON, the password included), and at last "end". It answers "ready", or why it cannot.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

from psbarrier.errors import GuardianError
from psbarrier.exit_status import describe
from psbarrier.protocol.handover import Handover
from psbarrier.store.access import Access
from psbarrier.tether import Tether

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLOSING = 2.0
"""Seconds that a guardian gets to end by itself."""


class Guardian:
    """Holds the task of this process, from the moment that this is made until `close()` or this process's end.

    Raises GuardianError when it cannot be started, or is not ready within `timeout` seconds.
    """

    def __init__(self, handover: Handover, access: Access, timeout: float) -> None:
        self._task = handover.standing.task
        self._tether: Tether | None = None
        self._process = _start()
        try:
            self._hand_over(handover, access)
            self._await_ready(timeout)
        except BaseException:
            self._process.kill()
            self._end()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tether(self, on_death: Callable[[], None]) -> Tether:
        """Calls `on_death` when the guardian dies before this process closes it."""
        self._tether = Tether(_pipe(self._process.stdout), on_death, self._hang_up)
        return self._tether

    def close(self) -> None:
        """Let it end without a word to etcd: the task is this process's own again. Idempotent."""
        if self._tether is not None:
            self._tether.close()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is dead, or closed already
            _pipe(self._process.stdin).write(b"end\n")
        try:
            self._process.wait(_CLOSING)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait()
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        if self._tether is None:  # else its thread reads, and closes it
            _pipe(self._process.stdout).close()

    def _hand_over(self, handover: Handover, access: Access) -> None:
        given = {"handover": handover.pack(), "access": access.as_dict(), "parent": os.getpid()}
        with contextlib.suppress(BrokenPipeError):  # what it died of is seen next
            _pipe(self._process.stdin).write(json.dumps(given).encode() + b"\n")

    def _await_ready(self, timeout: float) -> None:
        until, said = time.monotonic() + timeout, b""
        pipe = _pipe(self._process.stdout)
        while not said.endswith(b"\n"):
            readable, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not readable:
                raise self._failed(f"it was not ready after {timeout:.1f} s")
            chunk = os.read(pipe.fileno(), 4096)
            if not chunk:
                raise self._failed(f"it {describe(self._process.wait())}")
            said += chunk
        if said != b"ready\n":
            raise self._failed(said.decode(errors="replace").strip())

    def _failed(self, why: str) -> GuardianError:
        return GuardianError(
            f"the guardian of {self._task} could not be started: {why}; join without guardian=True, or mend that",
            task=str(self._task),
        )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _start() -> subprocess.Popen[bytes]:
    """A new interpreter with our modules, in a session of its own, so that what a terminal sends us does not end it."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # inherited: none is lost before it ignores them
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "psbarrier.guardian_process"],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise GuardianError(f"the guardian could not be started: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
