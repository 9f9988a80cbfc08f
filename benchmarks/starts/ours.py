"""A member of a job: join, and pass the gate."""

from __future__ import annotations

import contextlib
import sys

import psbarrier
import psbarrier.store.etcd
from benchmarks import party


def joined(endpoint: str, job: str, size: int, index: int) -> psbarrier.Member:
    """A member that has passed the gate."""
    me = psbarrier.join(
        endpoint,
        job,
        "worker",
        index,
        replicas={"worker": size},
        address=f"127.0.0.1:{10000 + index}",
        run="run",
        timeout=120,
    )
    assert len(me.cluster(timeout=120).addresses("worker")) == size
    return me


def main(endpoint: str, job: str, size: int, index: int) -> None:
    """One process. What join() would import only when it is called, etcd3 above all, is imported before the clock starts."""
    with contextlib.ExitStack() as stack:
        party.perform({"start": lambda: stack.enter_context(joined(endpoint, job, size, index))})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
