"""A process whose footprint is looked at: one that only imports grpc, or an idle member, who leads its job of one.

python -m benchmarks.footprint_party [ENDPOINT]
"""

# ruff: noqa: F401  # what is imported is what is measured

from __future__ import annotations

import contextlib
import sys
import threading
import uuid

from benchmarks.waiting import await_true


def threads() -> None:
    """Those that Python knows of."""
    print("threads", threading.active_count(), flush=True)


def beating() -> bool:
    """The stream of keep-alives, and with it a thread that writes it, is there from the first beat on, not from the start."""
    return any(thread.name == "psbarrier-keep-alive-writer" for thread in threading.enumerate())


def main(endpoint: str | None) -> None:
    """Be there until the input ends."""
    with contextlib.ExitStack() as stack:
        if endpoint is None:
            import grpc
        else:
            import psbarrier

            job = f"f{uuid.uuid4().hex[:8]}"
            me = psbarrier.join(endpoint, job, "worker", 0, run="run", replicas={"worker": 1}, address="127.0.0.1:1")
            stack.enter_context(me).cluster(timeout=60)
            await_true(beating, "a keep-alive was sent")
        print("ready", flush=True)
        while sys.stdin.readline():
            threads()


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else None)
