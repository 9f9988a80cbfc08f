"""What torch.distributed.init_process_group() reads, and what torchrun reads instead of its arguments (PyTorch 2.13).

`env://` wants RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torch/distributed/rendezvous.py); the others have the names
that torchrun gives them. torchrun takes any argument from PET_<ARGUMENT> (torch/distributed/argparse_util.py), so that
below it each task is a node, and its own processes get their ranks from it; TORCHELASTIC_… are its own to set, for they
tell a program that torchrun started it. PyTorch knows no roles: every task takes part.

Rank 0 listens on its task's address. A node of LOCAL_RANK and GROUP_RANK is a host: tasks that share one share its devices.
"""

from __future__ import annotations

from psbarrier.emit import ranks
from psbarrier.emit.ranks import Local
from psbarrier.spec import ClusterSpec, Task, host_of, port_of


def environment(spec: ClusterSpec, task: Task, local: Local) -> dict[str, str]:
    """The variables of one process of `task`; InvalidArgumentError for more than one chief or master."""
    ranks.check_first(spec, "PyTorch")
    place = ranks.place(spec, task, local)
    address, port = host_of(place.first.address), port_of(place.first.address)
    return {
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.size),
        "LOCAL_RANK": str(place.on_host),
        "LOCAL_WORLD_SIZE": str(place.host_size),
        "GROUP_RANK": str(list(place.hosts).index(place.host)),
        "GROUP_WORLD_SIZE": str(len(place.hosts)),
        "ROLE_NAME": task.role,
        "ROLE_RANK": str(spec.position(task) * local.size + local.rank),
        "ROLE_WORLD_SIZE": str(len(spec.addresses(task.role)) * local.size),
        "PET_NNODES": str(len(place.ranked)),
        "PET_NODE_RANK": str(place.position),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": port,
        "PET_RDZV_BACKEND": "static",
        "PET_RDZV_ID": f"{spec.job}.{spec.run}.{spec.epoch}",
        "PET_ROLE": task.role,
    }
