"""Times for people to read."""

from __future__ import annotations

import datetime


def clock_time(wall: float) -> str:
    """A time of day for people, with its date and zone."""
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
