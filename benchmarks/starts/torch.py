"""A node of torchrun: the first round of the rendezvous of one of its backends, made by torch's own registry.

All options are those of torchrun, but for a last call, which nobody waits for when all nodes come. c10d's store is served
by node 0. That the nodes have met is proven by a value from another one's store.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from benchmarks import party

# What the registry would import only when it is called.
LAZY = {
    "c10d": ["torch.distributed.elastic.rendezvous.c10d_rendezvous_backend"],
    "etcd-v2": ["torch.distributed.elastic.rendezvous.etcd_rendezvous_backend"],
    "psbarrier": ["psbarrier.torch_rendezvous"],
}


def main(backend: str, endpoint: str, job: str, size: int, index: int) -> None:
    """One process."""
    for module in LAZY[backend]:
        importlib.import_module(module)
    more = {"is_host": index == 0} if backend == "c10d" else {}
    met: list[Any] = []

    def start() -> None:
        parameters = RendezvousParameters(backend, endpoint, job, size, size, "127.0.0.1", **more)
        handler = get_rendezvous_handler(parameters)
        met.extend([handler, handler.next_rendezvous()])
        assert met[1].world_size == size

    def tell() -> None:
        met[1].store.set(f"rank{met[1].rank}", "here")

    def prove() -> None:
        assert met[1].store.get(f"rank{(met[1].rank + 1) % size}") == b"here"

    party.perform({"start": start, "tell": tell, "prove": prove})
    met[0].shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
