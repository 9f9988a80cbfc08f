"""ClusterSpec → the environment, or the file, from which a framework learns who is who. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping

from psbarrier.emit import dmlc, horovod, hostfile, jax_processes, neutral, paddle, tensorflow, torch, xgboost
from psbarrier.emit.ranks import Local
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task

# Who starts one process for each task …
_EMITTERS: Mapping[str, Callable[[ClusterSpec, Task], dict[str, str]]] = {
    "dmlc": dmlc.environment,
    "jax": jax_processes.environment,
    "paddle": paddle.environment,
    "psbarrier": neutral.environment,
    "tensorflow": tensorflow.environment,
    "tensorflow-sparse": tensorflow.sparse_environment,
    "xgboost": xgboost.environment,
}
# … and who may start several.
_SEVERAL: Mapping[str, Callable[[ClusterSpec, Task, Local], dict[str, str]]] = {
    "horovod": horovod.environment,
    "torch": torch.environment,
}
_FILES: Mapping[str, Callable[[ClusterSpec], str]] = {
    "mpich": hostfile.mpich,
    "openmpi": hostfile.openmpi,
}
_COLLECTIVES = ("horovod", "jax", "torch", "xgboost")

FORMATS = tuple(sorted([*_EMITTERS, *_SEVERAL]))
"""Those that are variables."""
FILES = tuple(sorted(_FILES))
"""Those that are a file, the same for all tasks."""


def environment(
    framework: str, spec: ClusterSpec, task: Task, *, local_rank: int = 0, local_size: int = 1
) -> dict[str, str]:
    """The variables that `framework` reads in a process of `task`: the `local_rank`-th of `local_size`, where a task
    starts several, as many as every other task does.

    Raises InvalidArgumentError for an unknown framework, a task that is not in the spec, local ranks that cannot be, and
    a spec that the framework could not take, with the framework's rule in the message.
    """
    if framework in _FILES:
        raise InvalidArgumentError(
            f"the format {framework!r} is a file, the same for all tasks, and no variables: psbarrier spec prints it"
        )
    if framework not in FORMATS:
        raise _unknown(framework, FORMATS)
    local = _local(local_rank, local_size)
    if local.size > 1 and framework not in _SEVERAL:
        raise InvalidArgumentError(
            f"the format {framework!r} describes one process for each task, and local_size={local.size} asks for more: "
            f"there are local ranks in {', '.join(sorted(_SEVERAL))}"
        )
    spec.member(task)
    if framework in _SEVERAL:
        return _SEVERAL[framework](spec, task, local)
    return _EMITTERS[framework](spec, task)


def file(framework: str, spec: ClusterSpec) -> str:
    """The text of the file that `framework`, one of FILES, reads; raises InvalidArgumentError like `environment`."""
    if framework not in _FILES:
        raise _unknown(framework, FILES)
    return _FILES[framework](spec)


def replaces_nobody(frameworks: Iterable[str], roles: Collection[str]) -> bool:
    """Whether one of `frameworks` makes the tasks one group that cannot take in a new member while it runs: when one
    was replaced, all must start again."""
    return any(
        name in _COLLECTIVES or (name == "paddle" and not set(roles) & set(paddle.SERVERS)) for name in frameworks
    )


def _local(rank: int, size: int) -> Local:
    for name, value in (("local_rank", rank), ("local_size", size)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidArgumentError(f"{name}={value!r:.80} is not a whole number")
    if not 0 <= rank < size:
        raise InvalidArgumentError(f"local_rank={rank} is not from 0 to local_size - 1, which is {size - 1}")
    return Local(rank, size)


def _unknown(framework: str, known: Collection[str]) -> InvalidArgumentError:
    near = difflib.get_close_matches(framework, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidArgumentError(f"no format {framework!r}: there are {', '.join(known)}{hint}")
