"""Shelter: where the exception of a signal handler cannot strike in the middle of something.

Python runs signal handlers in the main thread, between any two of its steps, and the one for Ctrl-C raises there. Where
it strikes inside gRPC, or right after a lock was taken, that lock stays taken, so every thread that needs it waits for
ever, and Ctrl-C hangs the process that it was to end. (`with condition:` is no help: `threading.Condition.__enter__` is
Python code itself.) So the main thread does nothing that takes such a lock. It has a thread of its own do it and only
waits for that one's end, which an exception may interrupt at any moment.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

R = TypeVar("R")
P = ParamSpec("P")

_LOOK_UP = 0.5
"""Seconds: a signal that arrives just before the main thread falls asleep is noticed when it looks up."""


def shelter(work: Callable[[], R], abandon: Callable[[], None] | None = None) -> R:
    """What `work` returns or raises. The main thread has another one do it; any other does it itself.

    When an exception interrupts the main thread, it is raised at once, and `abandon` is called before: `work` goes on
    alone, and should be made to end.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    errand = _Errand(work)
    try:
        done = errand.do()
    except BaseException:
        if abandon is not None:
            abandon()
        raise
    return errand.outcome() if done else work()


def sheltered(method: Callable[P, R]) -> Callable[P, R]:
    """`method`, done in the shelter."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return shelter(lambda: method(*args, **kwargs))

    return call


class _Errand(Generic[R]):
    """Work that the main thread sends another one to do."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        self._result: list[R] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="psbarrier-call", daemon=True)

    def do(self) -> bool:
        """Have it done; False where no thread can be started, as while the interpreter ends."""
        try:
            self._thread.start()
        except RuntimeError:
            return False
        while self._thread.is_alive():
            self._thread.join(_LOOK_UP)
        return True

    def _run(self) -> None:
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is raised where the work was wanted
            self._error = error

    def outcome(self) -> R:
        """What came of it."""
        error, self._error = self._error, None
        if error is None:
            return self._result[0]
        try:
            raise error
        finally:
            del error  # its traceback holds this frame
