"""A party of psbarrier's barrier that counts its own processor time: by thread, and in the calling thread by step."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import psbarrier
from benchmarks import machine, party
from benchmarks.bare import BareClient
from psbarrier.drive import Drive
from psbarrier.protocol.party import Party
from psbarrier.session import Session
from psbarrier.store import etcd, wire
from psbarrier.store.clock import SystemClock

WARM_UP = 20  # rounds
CALLER = "psbarrier-call"
"""The thread that does what the main thread asks for."""

STEPS: dict[str, tuple[Any, str]] = {
    "the transaction, as psbarrier's values": (Party, "arrive"),
    "the transaction, as bytes": (etcd, "txn_bytes"),
    "gRPC's call": (type(BareClient("127.0.0.1:1").txn), "__call__"),
    "the reply, as psbarrier's values": (wire, "txn_reply"),
    "the reply, into the view": (Session, "perform"),
    "to fall asleep, and to wake up": (SystemClock, "wait"),
    "to look at the view": (Drive, "_wait"),
}
"""Where each step is done. One that is done in the middle of another counts for itself alone."""
REST = "all else of the call"

THREADS = {
    CALLER: "thread: of the call",
    "MainThread": "thread: the main one, which has another do it",
    "psbarrier-watch": "thread: reads the event",
    "": "threads: of gRPC's core",
}
OTHERS = "threads: all others, one of gRPC for each connection among them"

PARTS = (*STEPS, REST, *THREADS.values(), OTHERS)


class Steps:
    """Seconds of processor that the calling thread spent in each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = 0.0
        for name, (owner, attribute) in STEPS.items():
            setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread().name != CALLER or name in self._open:
                return function(*args, **kwargs)
            self._pass()
            self._open.append(name)
            try:
                return function(*args, **kwargs)
            finally:
                self._pass()
                self._open.pop()

        return call

    def _pass(self) -> None:
        """What passed since the last time belongs to the innermost step that is open."""
        now = time.thread_time()
        self.seconds[self._open[-1] if self._open else REST] += now - self._last
        self._last = time.thread_time()


def by_thread() -> dict[str, float]:
    """Seconds of processor of each kind of thread so far."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    used: dict[str, float] = defaultdict(float)
    for thread, seconds in machine.thread_seconds().items():
        used[THREADS.get(names.get(thread, ""), OTHERS)] += seconds
    return used


def main(endpoint: str, size: int, index: int, rounds: int, pause: float) -> None:
    """Meet so often, after so many seconds of doing nothing each time, and say what that took."""
    steps = Steps()
    with psbarrier.join(
        endpoint, "profile", "worker", index, replicas={"worker": size}, address="127.0.0.1:1", run="run", timeout=120
    ) as me:
        me.cluster(timeout=120)
        barrier = me.barrier("meeting")
        party.say("ready")
        party.hear()
        for number in range(WARM_UP + rounds):
            if number == WARM_UP:
                steps.seconds.clear()
                before = by_thread()
            time.sleep(pause)
            barrier.wait(timeout=60)
        after = by_thread()
        used = {**steps.seconds, **{name: after[name] - before[name] for name in after}}
        party.say("used", *(used.get(name, 0.0) / rounds for name in PARTS))
        party.hear()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
