"""How a process ended, as subprocess says it: its exit code, or -N for signal N."""

from __future__ import annotations

import signal


def shell_code(status: int) -> int:
    """A child's return code as a shell tells it: 128 + N for one that signal N has killed (-N)."""
    return 128 - status if status < 0 else status


def describe(status: int) -> str:
    """How a child ended, in words."""
    if status >= 0:
        return f"exited with code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
