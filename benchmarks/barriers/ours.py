"""A party of psbarrier's barrier: a member of a job, as any program is."""

from __future__ import annotations

import sys

import psbarrier
from benchmarks import party


def main(endpoint: str, job: str, size: int, index: int) -> None:
    """Join, pass the gate, and meet."""
    replicas = {"worker": size}
    with psbarrier.join(
        endpoint, job, "worker", index, replicas=replicas, address="127.0.0.1:1", run="run", timeout=120
    ) as me:
        me.cluster(timeout=120)
        barrier = me.barrier("meeting")
        party.perform({"meet": lambda: barrier.wait(timeout=60)})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
