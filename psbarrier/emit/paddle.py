"""What PaddlePaddle 3.3 reads: PaddleCloudRoleMaker (distributed/fleet/base/role_maker.py) and, in collective mode,
init_parallel_env() (distributed/parallel.py).

With a ps role it is the parameter-server mode, else the collective one. A PSERVER looks for its own POD_IP:PADDLE_PORT in
the list of servers, letter by letter. PADDLE_MASTER is the address of rank 0's task, where its store listens.
PADDLE_DISTRI_BACKEND is left to the program: without it Paddle takes NCCL where it has GPUs; on a CPU it needs "gloo".
"""

from __future__ import annotations

from psbarrier.emit import ranks
from psbarrier.emit.ranks import Place
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, MemberSpec, Task, host_of, port_of

SERVERS = ("ps", "pserver", "server")
"""The roles that Paddle calls PSERVER."""
_TRAINERS = ("chief", "master", "trainer", "worker")


def environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """The variables of `task`; InvalidArgumentError when Paddle could not take the spec."""
    ranks.check_no_ipv6(spec, "Paddle splits addresses at ':' and so takes no IPv6 address")
    address = spec.member(task).address
    mine = {
        "POD_IP": host_of(address),
        "PADDLE_PORT": port_of(address),
        "PADDLE_CURRENT_ENDPOINT": address,
    }
    servers = [member for member in spec.members if member.task.role in SERVERS]
    if not servers:
        ranks.check_workers(spec, "Paddle's collective mode")
        return mine | _collective(ranks.place(spec, task))
    return mine | _with_servers(spec, task, servers)


def _with_servers(spec: ClusterSpec, task: Task, servers: list[MemberSpec]) -> dict[str, str]:
    _check(spec, servers)
    trainers = ranks.in_order([member for member in spec.members if member.task.role in _TRAINERS])
    variables = {
        "PADDLE_PSERVERS_IP_PORT_LIST": _listed(servers),
        "PADDLE_PSERVER_NUMS": str(len(servers)),
        "PADDLE_TRAINER_ENDPOINTS": _listed(trainers),
        "PADDLE_TRAINERS_NUM": str(len(trainers)),
    }
    if task.role in SERVERS:
        return variables | {"TRAINING_ROLE": "PSERVER"}
    number = [member.task for member in trainers].index(task)
    return variables | {"TRAINING_ROLE": "TRAINER", "PADDLE_TRAINER_ID": str(number)}


def _check(spec: ClusterSpec, servers: list[MemberSpec]) -> None:
    roles = {member.task.role for member in servers}
    if len(roles) > 1:
        raise InvalidArgumentError(
            f"{' and '.join(sorted(roles))} are all PSERVER to Paddle: give only one of these roles"
        )
    for role in spec.roles:
        if role not in SERVERS + _TRAINERS:
            raise InvalidArgumentError(
                f"Paddle's parameter-server mode knows servers ({', '.join(SERVERS)}) and trainers "
                f"({', '.join(_TRAINERS)}), and not {role!r}: rename the role"
            )
    if len(servers) == len(spec.members):
        raise InvalidArgumentError("Paddle's parameter-server mode needs at least one trainer: add the role worker")
    ranks.check_first(spec, "Paddle")


def _collective(place: Place) -> dict[str, str]:
    return {
        "PADDLE_MASTER": place.first.address,
        "PADDLE_TRAINER_ENDPOINTS": _listed(place.ranked),
        "PADDLE_TRAINERS_NUM": str(place.size),
        "PADDLE_TRAINER_ID": str(place.rank),
        "PADDLE_GLOBAL_SIZE": str(place.size),
        "PADDLE_GLOBAL_RANK": str(place.rank),
        "PADDLE_LOCAL_SIZE": str(place.host_size),
        "PADDLE_LOCAL_RANK": str(place.on_host),
        "PADDLE_RANK_IN_NODE": str(place.on_host),
        "PADDLE_NNODES": str(len(place.hosts)),
        "PADDLE_TRAINING_ROLE": "TRAINER",
    }


def _listed(members: list[MemberSpec] | tuple[MemberSpec, ...]) -> str:
    return ",".join(member.address for member in members)
