"""One process of scale.py: many members on one connection, each with a lease, a watch and a thread of its own.

python -m benchmarks.scale_party ENDPOINT FIRST COUNT SIZE BARRIERS TTL
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable

import psbarrier
from benchmarks import party

PATIENCE = 600.0
"""Seconds that a member waits for the others."""
AT_ONCE = 8
"""So many members of a process join at once: a thousand threads that do only keep one another from running."""


class Crowd:
    """The members of this process, and a thread for each, which does what it is told."""

    def __init__(self, endpoint: str, first: int, count: int, size: int, barriers: int, ttl: int) -> None:
        self._store = psbarrier.connect(endpoint)
        self._indices = range(first, first + count)
        self._size, self._barriers, self._ttl = size, barriers, ttl
        self._members: dict[int, psbarrier.Member] = {}
        self._orders: dict[int, queue.SimpleQueue[Callable[[int], None] | None]] = {
            index: queue.SimpleQueue() for index in self._indices
        }
        self._done: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._turns = threading.Semaphore(AT_ONCE)
        # Whoever waits for the interpreter's lock asks for it each so many seconds, which a thousand threads do together.
        sys.setswitchinterval(0.05)
        threading.stack_size(512 * 1024)
        for index in self._indices:
            threading.Thread(target=self._obey, args=(index,), name=f"member-{index}").start()

    def _obey(self, index: int) -> None:
        while (order := self._orders[index].get()) is not None:
            try:
                order(index)
            except Exception as error:  # noqa: BLE001 (raised where it was ordered)
                self._done.put(error)
            else:
                self._done.put(None)

    def _all(self, order: Callable[[int], None]) -> None:
        """Each member does it, in its own thread; returns when all have."""
        for index in self._indices:
            self._orders[index].put(order)
        errors = [error for error in (self._done.get() for _ in self._indices) if error is not None]
        if errors:
            raise RuntimeError(f"{len(errors)} of {len(self._indices)} members failed") from errors[0]

    def start(self) -> None:
        """Join, and pass the gate."""
        self._all(self._start)

    def _start(self, index: int) -> None:
        with self._turns:
            member = self._members[index] = psbarrier.join(
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
        member.cluster(PATIENCE)

    def define(self) -> None:
        """Make the barrier, and meet once."""
        self._all(lambda index: self._meet(index, 1))

    def meet(self) -> None:
        """Meet at the barrier, again and again."""
        self._all(lambda index: self._meet(index, self._barriers))

    def _meet(self, index: int, times: int) -> None:
        barrier = self._members[index].barrier("step")
        for _ in range(times):
            barrier.wait(PATIENCE)

    def end(self) -> None:
        """Finish, hear that the job has succeeded, and close."""
        self._all(self._end)

    def _end(self, index: int) -> None:
        member = self._members[index]
        member.finish()
        member.wait_job(PATIENCE)
        member.close()

    def close(self) -> None:
        """End the threads."""
        for orders in self._orders.values():
            orders.put(None)
        self._store.close()


def main(endpoint: str, *numbers: str) -> None:
    """One process."""
    crowd = Crowd(endpoint, *map(int, numbers))
    try:
        party.perform({"start": crowd.start, "define": crowd.define, "meet": crowd.meet, "end": crowd.end})
    finally:
        crowd.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
