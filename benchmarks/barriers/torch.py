"""A party of the barrier that torch has over its TCPStore: in the memory of party 0, which serves all."""

from __future__ import annotations

import itertools
import sys
from datetime import timedelta

from torch.distributed import TCPStore
from torch.distributed.elastic.utils.store import barrier

from benchmarks import party


def main(port: int, size: int, index: int) -> None:
    """Connect, and meet; each meeting has keys of its own."""
    store = TCPStore("127.0.0.1", port, size, is_master=index == 0, timeout=timedelta(seconds=120))
    rounds = itertools.count()
    party.perform({"meet": lambda: barrier(store, size, f"round{next(rounds)}", barrier_timeout=60)})


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
