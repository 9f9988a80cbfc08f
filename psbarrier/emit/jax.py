"""Importing this module is enough for jax.distributed.initialize() to need no arguments, in a process with our variables.

    import jax
    import psbarrier.emit.jax
    jax.distributed.initialize()

The variables are those of `psbarrier run --emit jax` and `cluster.env("jax", task)`. It imports JAX, and so nothing else in
psbarrier imports it. Each process keeps all of its local devices; JAX_LOCAL_DEVICE_IDS, which JAX reads, narrows them.
"""

from __future__ import annotations

import os

from jax._src.clusters import ClusterEnv  # JAX has no public name for it

from psbarrier.emit.jax_processes import COORDINATOR, COUNT, ID


class PsBarrierCluster(ClusterEnv):  # type: ignore[misc]  # JAX is not there where types are checked
    """Where JAX finds its cluster; it also takes cluster_detection_method="psbarrier"."""

    name = "psbarrier"

    @classmethod
    def is_env_present(cls) -> bool:
        """Whether all of the variables are set."""
        return all(os.environ.get(name) for name in (COORDINATOR, COUNT, ID))

    @classmethod
    def get_coordinator_address(cls, *_: object, **__: object) -> str:
        """Where process 0 listens. JAX reads the variable itself before it asks us."""
        return os.environ[COORDINATOR]

    @classmethod
    def get_process_count(cls) -> int:
        """How many processes there are in all."""
        return int(os.environ[COUNT])

    @classmethod
    def get_process_id(cls) -> int:
        """Which of them this is, from 0 on."""
        return int(os.environ[ID])


# JAX takes the first kind of cluster that is present. A Slurm node's or a Pod's own variables are there as well, and may mean
# another set of processes; whoever imports this module means ours.
ClusterEnv._cluster_types.remove(PsBarrierCluster)
ClusterEnv._cluster_types.insert(0, PsBarrierCluster)
