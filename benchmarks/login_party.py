"""Members on threads of one process, each with a store of its own: they start, meet after a restart of etcd, and end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psbarrier
from benchmarks import party
from psbarrier.store.etcd import EtcdStore


def main(endpoint: str, job: str, first: int, count: int, size: int, user: str = "", password: str = "") -> None:
    """One process."""
    members: list[psbarrier.Member] = []
    lock = threading.Lock()

    def start(index: int) -> None:
        store = (
            EtcdStore(endpoint, user=user, password=password, allow_plaintext_password=True)
            if user
            else EtcdStore(endpoint)
        )
        me = psbarrier.join(
            store, job, "worker", index, replicas={"worker": size}, address="h:1", run="run", timeout=120
        )
        with lock:
            members.append(me)
        me.cluster(timeout=120)

    with ThreadPoolExecutor(count) as pool:

        def each(action: Callable[[psbarrier.Member], object]) -> None:
            list(pool.map(action, members))

        party.perform(
            {
                "start": lambda: list(pool.map(start, range(first, first + count))),
                "meet": lambda: each(lambda me: me.barrier("meeting").wait(timeout=120)),
                "end": lambda: each(lambda me: me.close()),
            }
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), *sys.argv[6:])
