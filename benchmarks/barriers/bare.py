"""A party of a bare loop: one transaction that counts it and one event that releases it, and nothing else."""

from __future__ import annotations

import sys

from benchmarks import bare, party
from psbarrier.store.base import Compare, Put, Txn


def arrival(path: str, size: int, number: int) -> bytes:
    """Count one more party of that round; the last one releases all."""
    tick = f"{path}/ticks/{number}"
    release = Txn((Compare(tick, "version", "==", size - 1),), (Put(f"{path}/released/", str(number).encode()),))
    return bare.txn_bytes(Txn((), (Put(tick, b""), release)))


def main(endpoint: str, path: str, size: int, rounds: int) -> None:
    """Prepare all rounds, and meet. A thread fewer than this cannot be: who waits reads the stream itself."""
    client = bare.BareClient(endpoint)
    requests = iter([arrival(path, size, number) for number in range(rounds)])
    events = client.watch(bare.watch_bytes(f"{path}/released/"))
    next(events)

    def meet() -> None:
        client.txn(next(requests))
        next(events)

    party.perform({"meet": meet})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
