"""Errands: calls on threads of their own, waited for as long as one likes.

A call that hangs, as a resolver may for a minute, cannot be ended from outside; it is left alone, on a thread that does not
keep the process from ending. (The threads of concurrent.futures do.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Errand(Generic[T]):
    """A call that has been started."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answer: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="psbarrier-errand", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer.append(self._call())
        except Exception as error:  # noqa: BLE001 (raised where the answer is wanted)
            self._error = error

    def result(self, until: float) -> T:
        """What the call returns or raises; TimeoutError when it has not ended by `until`, of time.monotonic()."""
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._error is not None:
            raise self._error
        if not self._answer:
            raise TimeoutError
        return self._answer[0]


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises, or TimeoutError."""
    return Errand(call).result(time.monotonic() + seconds)
