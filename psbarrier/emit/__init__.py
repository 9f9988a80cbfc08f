"""ClusterSpec → the environment from which a framework learns who it is and who the others are. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from psbarrier.emit import jax_processes, neutral, tensorflow
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task

_EMITTERS: Mapping[str, Callable[[ClusterSpec, Task], dict[str, str]]] = {
    "jax": jax_processes.environment,
    "psbarrier": neutral.environment,
    "tensorflow": tensorflow.environment,
    "tensorflow-sparse": tensorflow.sparse_environment,
}

FORMATS = tuple(sorted(_EMITTERS))


def environment(framework: str, spec: ClusterSpec, task: Task) -> dict[str, str]:
    """The variables that `framework` reads in the process of `task`.

    Raises InvalidArgumentError for an unknown framework, a task that is not in the spec, and a spec that the framework
    could not take, with the framework's rule in the message.
    """
    if framework not in _EMITTERS:
        near = difflib.get_close_matches(framework, FORMATS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidArgumentError(f"no format {framework!r}: there are {', '.join(FORMATS)}{hint}")
    spec.member(task)
    return _EMITTERS[framework](spec, task)
