"""What process 1 of a container owes to the others: pass signals on, and reap whoever was orphaned."""

from __future__ import annotations

import os
import signal

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
    # From here on blocked: the kernel would drop what process 1 has no handler for, and a handler of Python's may be
    # called too late, when we have just gone to sleep. A blocked signal waits until it is asked for.
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*FORWARDED, signal.SIGCHLD))
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_serve(child))


def _serve(child: int) -> int:
    """Pass signals on and reap everything until `child` ends; its exit code. Nobody else's is wanted."""
    while True:
        number = signal.sigwait((*FORWARDED, signal.SIGCHLD))
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        # One signal may stand for several children.
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                return 128 - code if code < 0 else code
