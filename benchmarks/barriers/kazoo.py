"""A party of kazoo's DoubleBarrier, over ZooKeeper."""

from __future__ import annotations

import sys

from kazoo.client import KazooClient

from benchmarks import party


def main(endpoint: str, path: str, size: int, index: int) -> None:
    """Connect, and enter and leave one barrier."""
    client = KazooClient(hosts=endpoint, timeout=60)
    client.start(timeout=60)
    barrier = client.DoubleBarrier(f"/{path}", size, identifier=f"party{index}")

    def enter() -> None:
        barrier.enter()
        assert barrier.participating  # it swallows every error

    party.perform({"enter": enter, "leave": barrier.leave})
    client.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
