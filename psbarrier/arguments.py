"""Arguments: what a caller may give, checked before anything is sent to etcd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from psbarrier.errors import InvalidArgumentError


def deadline(now: Callable[[], float], timeout: float | None) -> float | None:
    """When `timeout` seconds are over; None for one without a limit."""
    return None if timeout is None else now() + seconds("timeout", timeout)


def seconds(name: str, value: Any, *, least: float = 0.0) -> float:
    """`value` itself if it is a finite number of seconds, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
        raise InvalidArgumentError(f"{name}={value!r} is not a number of seconds from {least:g} on")
    return float(value)


def choice(name: str, value: str, *allowed: str) -> str:
    """`value` itself if it is one of `allowed`."""
    if value not in allowed:
        raise InvalidArgumentError(f"{name}={value!r} is not one of {', '.join(repr(option) for option in allowed)}")
    return value
