"""TF_CONFIG, as tf.distribute.cluster_resolver.TFConfigClusterResolver reads it (TensorFlow 2.21).

    {"cluster": {"chief": [...], "ps": [...], "worker": [...]}, "task": {"type": "worker", "index": 0}}

The evaluator stands outside the cluster, and "master", which TensorFlow 2 refuses, is emitted as "chief".
"""

from __future__ import annotations

import json

from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task

_ROLES = ("chief", "evaluator", "ps", "worker")


def environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """TF_CONFIG for `task`; InvalidArgumentError when TensorFlow could not take the cluster."""
    cluster = {_translated(role): addresses for role, addresses in spec.as_dict().items()}
    _check(spec, cluster)
    mine = _translated(task.role)
    seen = {role: addresses for role, addresses in cluster.items() if role != "evaluator"}
    config = {"cluster": seen, "task": {"type": mine, "index": task.index}}
    return {"TF_CONFIG": json.dumps(config, separators=(",", ":"))}


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
