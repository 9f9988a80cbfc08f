"""Waiting for what nobody tells: by looking again and again.

It imports little, for a process whose footprint is measured uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds
POLL = 0.0005  # seconds; what is waited for may be what is timed


def await_true(check: Callable[[], bool], what: str) -> None:
    """Return as soon as `check` is true; raises TimeoutError, which says that `what` has not happened, after a minute."""
    until = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > until:
            raise TimeoutError(f"within {PATIENCE:g} s it has not happened that {what}")
        time.sleep(POLL)
