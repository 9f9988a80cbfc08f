"""One process of scale.py: many members on one connection, each with a lease and a watch of its own.

python -m benchmarks.scale_party ENDPOINT FIRST COUNT SIZE BARRIERS TTL

A few threads join the members of a process one after the other, take them through the gate, and end them; only to meet,
which is to wait together, each member has a thread of its own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

import psbarrier
from benchmarks import party

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 600.0
"""Seconds that a member waits for the others."""
TIMEOUT = 60.0
"""Seconds for each request: a thousand members that share a fraction of a processor are slow, and etcd is not gone."""
AT_ONCE = 8
"""So many threads of a process start and end its members."""


class Crowd:
    """The members of this process, and the threads that act for them."""

    def __init__(self, endpoint: str, first: int, count: int, size: int, barriers: int, ttl: int) -> None:
        self._store = psbarrier.connect(endpoint, timeout=TIMEOUT)
        self._indices = range(first, first + count)
        self._size, self._barriers, self._ttl = size, barriers, ttl
        self._members: list[psbarrier.Member] = []
        # Whoever waits for the interpreter's lock wakes up each so many seconds to ask for it. A thousand threads that do,
        # by default 200 times a second each, leave no processor to the one that has it; ours give it up soon, to wait.
        sys.setswitchinterval(0.5)
        threading.stack_size(512 * 1024)
        self._few, self._many = ThreadPoolExecutor(AT_ONCE), ThreadPoolExecutor(count)

    def start(self) -> None:
        """Join, and pass the gate."""
        self._members = _all(self._few, self._join, self._indices)
        _all(self._few, lambda member: member.cluster(PATIENCE), self._members)

    def _join(self, index: int) -> psbarrier.Member:
        return psbarrier.join(
            self._store,
            "scale",
            "worker",
            index,
            run="run",
            replicas={"worker": self._size},
            address=f"10.0.{index // 250}.{index % 250}:2222",
            ttl=self._ttl,
            timeout=PATIENCE,
        )

    def define(self) -> None:
        """Make the barrier, and meet once."""
        self._meet(1)

    def meet(self) -> None:
        """Meet at the barrier, again and again."""
        self._meet(self._barriers)

    def _meet(self, times: int) -> None:
        def wait(member: psbarrier.Member) -> None:
            barrier = member.barrier("step")
            for _ in range(times):
                barrier.wait(PATIENCE)

        _all(self._many, wait, self._members)

    def end(self) -> None:
        """Finish, hear that the job has succeeded, and close."""
        _all(self._few, lambda member: member.finish(), self._members)
        _all(self._few, self._leave, self._members)

    def _leave(self, member: psbarrier.Member) -> None:
        member.wait_job(PATIENCE)
        member.close()

    def close(self) -> None:
        """End the threads."""
        for threads in (self._few, self._many):
            threads.shutdown()
        self._store.close()


def _all(threads: Executor, order: Callable[[T], R], each: Iterable[T]) -> list[R]:
    """What `order` returns for each, done in those threads; raises the error of the first that failed."""
    return list(threads.map(order, each))


def main(endpoint: str, *numbers: str) -> None:
    """One process."""
    crowd = Crowd(endpoint, *map(int, numbers))
    try:
        party.perform({"start": crowd.start, "define": crowd.define, "meet": crowd.meet, "end": crowd.end})
    finally:
        crowd.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
