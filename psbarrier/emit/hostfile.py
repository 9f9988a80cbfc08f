"""The host file of mpirun: a line for each host, with how many tasks of the spec it has.

mpirun fills the hosts in this order, and starts the processes itself: their ranks are its own.
"""

from __future__ import annotations

from collections import Counter

from psbarrier.emit import ranks
from psbarrier.spec import ClusterSpec, host_of


def openmpi(spec: ClusterSpec) -> str:
    """As `mpirun --hostfile` of Open MPI reads it: `host slots=N`."""
    return "".join(f"{host} slots={slots}\n" for host, slots in _slots(spec))


def mpich(spec: ClusterSpec) -> str:
    """As `mpiexec -f` of MPICH (Hydra) reads it: `host:N`; InvalidArgumentError for IPv6 addresses."""
    ranks.check_no_ipv6(spec, "MPICH splits a line of its host file at ':'")
    return "".join(f"{host}:{slots}\n" for host, slots in _slots(spec))


def _slots(spec: ClusterSpec) -> list[tuple[str, int]]:
    return list(Counter(host_of(member.address) for member in ranks.in_order(spec.members)).items())
