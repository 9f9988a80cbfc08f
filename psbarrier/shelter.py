"""Shelter: where the exception of a signal handler cannot strike in the middle of something.

Python runs signal handlers in the main thread, between any two of its steps, and the one for Ctrl-C raises there. Where
it strikes inside gRPC, or right after a lock was taken, that lock stays taken, so every thread that needs it waits for
ever, and Ctrl-C hangs the process that it was to end. (`with condition:` is no help: `threading.Condition.__enter__` is
Python code itself.) So the main thread does nothing that takes such a lock. It has another thread do it and only waits until
that is done, which an exception may interrupt at any moment. What it does itself for that, between two steps of which an
exception may strike, is written in C and of one piece: to take an item from a list, to put one into a SimpleQueue, and to wait
for a plain lock.

That thread stays a while for the next call, for to start one takes longer than all else that a barrier does here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

R = TypeVar("R")
P = ParamSpec("P")

_LOOK_UP = 0.5
"""Seconds: a signal that arrives just before the main thread falls asleep is noticed when it looks up."""
_LINGER = 2.0
"""Seconds that a thread waits for the next call."""

_idle: list[_Helper] = []


def shelter(work: Callable[[], R], abandon: Callable[[], None] | None = None) -> R:
    """What `work` returns or raises. The main thread has another one do it; any other does it itself.

    When an exception interrupts the main thread, it is raised at once, and `abandon` is called before: `work` goes on
    alone, and should be made to end.
    """
    if threading.current_thread() is not threading.main_thread() or sys.is_finalizing():
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


def dismiss() -> None:
    """Let no thread stay that waits for a call. For whoever closes something: it may have been the last."""
    helpers = []
    with contextlib.suppress(IndexError):
        while True:
            helpers.append(_idle.pop())
    for helper in helpers:
        helper.inbox.put(None)
    for helper in helpers:
        if helper.thread is not threading.current_thread():
            helper.thread.join(_LINGER)


class _Errand(Generic[R]):
    """Work that the main thread sends another one to do."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        self._result: list[R] = []
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()
        self.begun = False

    def do(self) -> bool:
        """Have it done; False where no thread can be started, as while the interpreter ends."""
        while not self.begun:
            try:
                helper = _idle.pop()
            except IndexError:
                helper = _Helper()
                try:
                    helper.thread.start()
                except RuntimeError:
                    return False
            helper.inbox.put(self)
            while not self._done.acquire(timeout=_LOOK_UP):
                if not (self.begun or helper.thread.is_alive()):
                    break  # it had waited for long enough just before we came
        return True

    def perform(self) -> None:
        """Do it, in another thread."""
        self.begun = True
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is raised where the work was wanted
            self._error = error

    def over(self) -> None:
        """The main thread may go on."""
        self._done.release()

    def outcome(self) -> R:
        """What came of it."""
        error, self._error = self._error, None
        if error is None:
            return self._result[0]
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


class _Helper:
    """A thread that does one errand after the other. One that the main thread was interrupted in is never waited for."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[_Errand[Any] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="psbarrier-call", daemon=True)

    def _serve(self) -> None:
        while (errand := self._next()) is not None:
            errand.perform()
            _idle.append(self)
            errand.over()
            del errand  # and with it the result, which may be large
        with contextlib.suppress(ValueError):
            _idle.remove(self)

    def _next(self) -> _Errand[Any] | None:
        try:
            return self.inbox.get(timeout=_LINGER)
        except queue.Empty:
            return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
