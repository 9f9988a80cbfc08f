"""The least that a process of a group must do on etcd: connect, one lease with its keep-alive, one transaction that
registers it, one event that says that all are there, and one read of them all.
"""

from __future__ import annotations

import secrets
import sys

from benchmarks import bare, party
from psbarrier.store.base import Compare, Put, Range, Txn, prefix_end

TTL = 60


def registration(path: str, size: int, index: int, lease: int) -> bytes:
    """Register, and be counted; the last one tells all."""
    tick = f"{path}/tick"
    release = Txn((Compare(tick, "version", "==", size - 1),), (Put(f"{path}/complete/", b""),))
    own = Put(f"{path}/members/{index}", f"127.0.0.1:{10000 + index}".encode(), lease)
    return bare.txn_bytes(Txn((), (own, Put(tick, b""), release)))


def main(endpoint: str, path: str, size: int, index: int) -> None:
    """One process; its requests are prepared."""
    lease = secrets.randbits(62) + 1
    grant, beat = bare.grant_bytes(lease, TTL), bare.keep_alive_bytes(lease)
    watch, register = bare.watch_bytes(f"{path}/complete/"), registration(path, size, index, lease)
    members = f"{path}/members/"
    everybody = bare.range_bytes(Range(members, prefix_end(members)))
    streams = []

    def start() -> None:
        client = bare.BareClient(endpoint)
        events = client.watch(watch)
        client.grant(grant)
        streams.append(client.keep_alive(beat))
        next(events)
        client.txn(register)
        next(events)
        assert client.read(everybody).count(b"127.0.0.1:") == size

    party.perform({"start": start})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
