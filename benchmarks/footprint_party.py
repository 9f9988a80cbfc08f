"""A process whose footprint is looked at: one that only imports grpc, or an idle member of a job of two.

python -m benchmarks.footprint_party [ENDPOINT JOB INDEX]
"""

# ruff: noqa: F401  # what is imported is what is measured

from __future__ import annotations

import contextlib
import sys
import threading

from benchmarks.waiting import await_true


def runs(name: str) -> bool:
    """Whether there is a thread of that name."""
    return any(thread.name == name for thread in threading.enumerate())


def threads() -> None:
    """How many Python knows of, and whether one of them leads."""
    print("threads", threading.active_count(), int(runs("psbarrier-duty")), flush=True)


def beating() -> bool:
    """The stream of keep-alives, and with it a thread that writes it, is there from the first beat on, not from the start."""
    return runs("psbarrier-keep-alive-writer")


def main(place: list[str]) -> None:
    """Be there until the input ends."""
    with contextlib.ExitStack() as stack:
        if not place:
            import grpc
        else:
            import psbarrier

            endpoint, job, index = place
            two = {"worker": 2}
            me = psbarrier.join(endpoint, job, "worker", int(index), run="run", replicas=two, address="127.0.0.1:1")
            stack.enter_context(me).cluster(timeout=60)
            await_true(beating, "a keep-alive was sent")
        print("ready", flush=True)
        while sys.stdin.readline():
            threads()


if __name__ == "__main__":
    main(sys.argv[1:])
