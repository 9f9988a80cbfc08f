"""Signals as items of a queue, so that nothing happens inside a signal handler."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self

from attrs import frozen

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@frozen
class Received:
    """A signal that arrived."""

    number: int


class Interrupted(BaseException):
    """A signal arrived while nothing was running that could be told of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """While the block lasts, SIGINT, SIGTERM and SIGHUP are put into `queue`. For the main thread.

    A signal that was ignored when we started stays so: nohup, and a shell's background jobs, mean it.
    """

    def __init__(self, queue: SimpleQueue[Any]) -> None:
        self._queue = queue
        self._raising = False
        self._before: dict[int, Any] = {}

    @contextmanager
    def raising(self) -> Iterator[None]:
        """In this block a signal raises Interrupted instead."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._raising:
            self._raising = False  # what cleans up after the first must not be cut short by a second
            raise Interrupted(number)
        self._queue.put(Received(number))

    def __enter__(self) -> Self:
        for number in STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
