"""What process 1 of a container owes to the others: pass signals on, and reap whoever was orphaned."""

from __future__ import annotations

import os
import signal
from types import FrameType

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)


def split_if_init() -> None:
    """In process 1, go on as its child; process 1 itself never returns from here. Call it before any thread starts.

    That way only one place waits for just any process, and it cannot take the status that another one waits for.
    """
    if os.getpid() == 1:
        split()


def split() -> None:
    """Return in a child of this process, which itself only waits, and exits as the child does."""
    # Blocked until both sides are ready: the kernel drops what process 1 has no handler for.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os._exit(_reap_until(child))


def _reap_until(child: int) -> int:
    """Reap everything until `child` ends; its exit code. Nobody else's is wanted."""
    while True:
        pid, status = os.wait()
        if pid == child:
            # From here on a signal finds nobody to be passed on to.
            signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
