"""TF_CONFIG, as tf.distribute.cluster_resolver.TFConfigClusterResolver reads it (TensorFlow 2.21).

    {"cluster": {"chief": [...], "ps": [...], "worker": [...]}, "task": {"type": "worker", "index": 0}}

The evaluator stands outside the cluster, and "master", which TensorFlow 2 refuses, is emitted as "chief". An IPv6 address
keeps its brackets. tf.train.ClusterSpec also takes a role as an object keyed by index, which may leave tasks out:

    {"cluster": {"ps": ["a:1", "b:1"], "worker": {"3": "c:1"}}, "task": {"type": "worker", "index": 3}}
"""

from __future__ import annotations

import json
from typing import Any

from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task

_ROLES = ("chief", "evaluator", "ps", "worker")


def environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """TF_CONFIG for `task`; InvalidArgumentError when TensorFlow could not take the cluster."""
    return _config(_cluster(spec), task, spec.position(task))


def sparse_environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """TF_CONFIG in which a worker finds itself and every ps, and a ps only itself: what they are told stays the same when
    other workers come and go. The chief and the evaluator find everybody, by index. It is for a
    tf.distribute.Server, which is all that such a worker or ps makes; a strategy would want the whole cluster.

    Also raises InvalidArgumentError for a cluster without ps: there the workers have to know one another.
    """
    cluster: dict[str, Any] = dict(_cluster(spec))
    if "ps" not in cluster:
        raise InvalidArgumentError(
            "TensorFlow's sparse cluster is for workers that speak to parameter servers only, and this one has no ps: use "
            "the format 'tensorflow'"
        )
    if task.role in ("ps", "worker"):
        mine = {task.role: {str(task.index): spec.member(task).address}}
        cluster = mine if task.role == "ps" else {"ps": cluster["ps"], **mine}
    elif any(spec.position(member.task) != member.task.index for member in spec.members):
        cluster |= {"worker": {str(m.task.index): m.address for m in spec.members if m.task.role == "worker"}}
    return _config(cluster, task, task.index)


def _config(cluster: dict[str, Any], task: Task, index: int) -> dict[str, str]:
    config = {"cluster": cluster, "task": {"type": _translated(task.role), "index": index}}
    return {"TF_CONFIG": json.dumps(config, separators=(",", ":"))}


def _cluster(spec: ClusterSpec) -> dict[str, list[str]]:
    cluster = {_translated(role): addresses for role, addresses in spec.as_dict().items()}
    _check(spec, cluster)
    return {role: addresses for role, addresses in cluster.items() if role != "evaluator"}


def _translated(role: str) -> str:
    return "chief" if role == "master" else role


def _check(spec: ClusterSpec, cluster: dict[str, list[str]]) -> None:
    if "master" in spec.roles and "chief" in spec.roles:
        raise InvalidArgumentError("TensorFlow takes one chief: 'master' is its old name, so give only 'chief'")
    for role in cluster:
        if role not in _ROLES:
            raise InvalidArgumentError(
                f"TensorFlow knows the roles {', '.join(_ROLES)}, and not {role!r}: rename the role"
            )
    for role in ("chief", "evaluator"):
        if len(cluster.get(role, [])) > 1:
            raise InvalidArgumentError(
                f"TensorFlow takes at most one {role}, and this cluster has {len(cluster[role])}"
            )
    if "ps" in cluster and "worker" not in cluster:
        raise InvalidArgumentError("TensorFlow's parameter-server strategy needs at least one worker beside the ps")
