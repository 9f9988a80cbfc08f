"""Home: the process that an object belongs to.

A forked child inherits a member's memory and sockets, but not the threads that keep its lease and read its watches, and
perhaps a lock that one of them held at that moment, which nobody will ever give back. So what is used in a child of its
process says so at once, before it takes any lock, and what ends there (a `with` block, an interpreter, an object that is
collected) leaves the parent's task alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from psbarrier.errors import ForkError

R = TypeVar("R")
P = ParamSpec("P")

WAY_OUT = (
    "let that process use it and pass on what the child needs, or start the child with multiprocessing's 'spawn' or "
    "'forkserver' method, where it may join for itself"
)


class Home:
    """The process in which this was made; `what` says to people what belongs to it."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.pid = os.getpid()

    @property
    def left(self) -> bool:
        """Whether this is another process: a forked child. Takes no lock."""
        return os.getpid() != self.pid

    def require(self) -> None:
        """Raises ForkError in a forked child."""
        if self.left:
            raise ForkError(
                f"{self.what} belongs to process {self.pid} and cannot be used in process {os.getpid()}, which was "
                f"forked from it: {WAY_OUT}",
                pid=self.pid,
            )


class _HasHome(Protocol):
    @property
    def _home(self) -> Home: ...


S = TypeVar("S", bound=_HasHome)


def at_home(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """`method`, which raises ForkError in a forked child of its object's process."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self._home.require()
        return method(self, *args, **kwargs)

    return call
