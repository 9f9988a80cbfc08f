"""What jax.distributed.initialize() has to know (JAX 0.10): the coordinator, how many processes there are, and which this is.

JAX itself reads only JAX_COORDINATOR_ADDRESS. JAX_NUM_PROCESSES and JAX_PROCESS_ID are what job schedulers for JAX set
as well; `import psbarrier.emit.jax` has initialize() read them, or the program gives them as arguments:

    jax.distributed.initialize(num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
                               process_id=int(os.environ["JAX_PROCESS_ID"]))

Process 0, which the others find at its address, is the chief where there is one, and else the first task of the only role.
"""

from __future__ import annotations

from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task

COORDINATOR = "JAX_COORDINATOR_ADDRESS"
COUNT = "JAX_NUM_PROCESSES"
ID = "JAX_PROCESS_ID"

_APART = ("ps", "evaluator")
"""Roles whose tasks do something else than the others, which no process of a JAX program does."""


def environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """The three variables for `task`; InvalidArgumentError when the roles are not those of one JAX program."""
    _check(spec)
    members = sorted(spec.members, key=lambda member: (member.task.role != "chief", member.task))
    return {
        COORDINATOR: members[0].address,
        COUNT: str(len(members)),
        ID: str([member.task for member in members].index(task)),
    }


def _check(spec: ClusterSpec) -> None:
    for role in _APART:
        if role in spec.roles:
            raise InvalidArgumentError(
                f"JAX has no {role}: each of its processes runs the same program, so give them one role, such as worker, "
                "and at most a chief"
            )
    chiefs, others = len(spec.addresses("chief")), [role for role in spec.roles if role != "chief"]
    if chiefs > 1:
        raise InvalidArgumentError(f"JAX takes one chief, its process 0, and this cluster has {chiefs}")
    if len(others) > 1:
        raise InvalidArgumentError(
            f"JAX's processes are all alike, and this cluster has the roles {', '.join(others)}: give them one role"
        )
