"""The entry point of torchrun's rendezvous on etcd v3: `torchrun --rdzv-backend=psbarrier --rdzv-endpoint=HOST:2379 …`.

torch finds `handler` in the group `torchrun.handlers` (since 2.6) whenever anything of torch.distributed.elastic is
imported, so nothing heavy is imported before a rendezvous is really asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def handler() -> Callable[[Any], Any]:
    """What makes a rendezvous handler from torch's RendezvousParameters."""

    def create(parameters: Any) -> Any:
        from psbarrier.torch_rendezvous import TorchRendezvous

        return TorchRendezvous(parameters)

    return create
