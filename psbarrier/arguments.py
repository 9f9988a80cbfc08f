"""Arguments: what a caller may give, checked before anything is sent to etcd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
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


DEEPEST = 64
"""Lists and objects within one another, in a value that others are to read."""


def check_json(value: Any) -> None:
    """Raises ValueError for a value made of JSON's types that not everybody could write again: a number that is not
    finite, or more than 64 lists and objects within one another."""
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(each, float) and not math.isfinite(each) for each in level):
            raise ValueError("a number in it is not finite")
        level = [inner for outer in level if isinstance(outer, dict | list | tuple) for inner in _inner(outer)]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def _inner(outer: Any) -> Iterable[Any]:
    return outer.values() if isinstance(outer, dict) else outer
