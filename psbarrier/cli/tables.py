"""Tables on standard output: drawn on a terminal, plain columns elsewhere."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table

_WIDE = 240
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def console() -> Console:
    """Standard output; wide enough for any line where nobody reads it on a screen."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def table(*columns: str) -> Table:
    """An empty table with these headings."""
    found = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in columns:
        found.add_column(column, overflow="fold")
    return found


def size(count: int) -> str:
    """Bytes, for people.

    >>> size(28672)
    '28.0 KiB'
    """
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def duration(seconds: float) -> str:
    """How long, for people, in at most two units.

    >>> duration(3700)
    '1h 1m'
    """
    left = max(0, int(seconds))
    days, left = divmod(left, 86400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (left, "s")) if count]
    return " ".join(parts[:2]) or "0s"
