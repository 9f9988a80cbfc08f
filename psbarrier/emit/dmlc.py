"""What ps-lite reads, and so BytePS and MXNet's distributed KVStore (ps-lite's src/postoffice.cc, van.cc and docs/env.md).

Our role scheduler is its scheduler; ps, or server, are its servers; worker its workers. ps-lite gives out the ranks
itself, as processes come; BytePS reads DMLC_WORKER_ID. Servers and workers choose free ports, and tell the scheduler.
"""

from __future__ import annotations

from psbarrier.emit import ranks
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task, host_of, port_of

_ROLES = {"scheduler": "scheduler", "ps": "server", "server": "server", "worker": "worker"}


def environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """The variables of `task`; InvalidArgumentError when ps-lite could not take the spec."""
    _check(spec)
    ranks.check_no_ipv6(spec, "ps-lite speaks IPv4 only")
    (scheduler,) = spec.addresses("scheduler")
    address = spec.member(task).address
    mine = _ROLES[task.role]
    variables = {
        "DMLC_ROLE": mine,
        "DMLC_PS_ROOT_URI": host_of(scheduler),
        "DMLC_PS_ROOT_PORT": port_of(scheduler),
        "DMLC_NUM_SERVER": str(_count(spec, "server")),
        "DMLC_NUM_WORKER": str(_count(spec, "worker")),
    }
    if mine != "scheduler":
        variables[f"DMLC_{mine.upper()}_ID"] = str(spec.position(task))
    # A process listens on this itself, and can do so on an IP address only; without it, it finds its own.
    if _is_ipv4(host_of(address)):
        variables["DMLC_NODE_HOST"] = host_of(address)
    # The same holds for the scheduler, which has this way out: it listens on all of its addresses.
    if not _is_ipv4(host_of(scheduler)):
        variables["DMLC_USE_KUBERNETES"] = "1"
    return variables


def _check(spec: ClusterSpec) -> None:
    for role in spec.roles:
        if role not in _ROLES:
            raise InvalidArgumentError(
                f"ps-lite knows the roles scheduler, ps (or server) and worker, and not {role!r}: rename the role"
            )
    if {"ps", "server"} <= set(spec.roles):
        raise InvalidArgumentError("'ps' and 'server' are the same to ps-lite: give only one of these roles")
    schedulers = len(spec.addresses("scheduler"))
    if schedulers != 1:
        raise InvalidArgumentError(
            f"ps-lite needs exactly one scheduler, and this cluster has {schedulers}: add the role scheduler with one task"
        )
    for role, names in (("server", "'ps'"), ("worker", "'worker'")):
        if not _count(spec, role):
            raise InvalidArgumentError(f"ps-lite needs at least one {role}: add the role {names}")


def _count(spec: ClusterSpec, mine: str) -> int:
    return sum(_ROLES[member.task.role] == mine for member in spec.members)


def _is_ipv4(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and all(part.isdecimal() and int(part) < 256 for part in parts)
