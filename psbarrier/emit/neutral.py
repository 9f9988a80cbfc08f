"""psbarrier's own variables, for scripts that follow no framework's convention."""

from __future__ import annotations

from psbarrier.spec import ClusterSpec, Task


def environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """PSBARRIER_JOB, _RUN, _ROLE, _INDEX, _ADDRESS, _EPOCH and _REPLICAS.

    The addresses of the others are not among them, for a large cluster would not fit into a variable: they stand in
    the file that PSBARRIER_CLUSTER_FILE names under `psbarrier run`.
    """
    return {
        "PSBARRIER_JOB": spec.job,
        "PSBARRIER_RUN": spec.run,
        "PSBARRIER_ROLE": task.role,
        "PSBARRIER_INDEX": str(task.index),
        "PSBARRIER_ADDRESS": spec.member(task).address,
        "PSBARRIER_EPOCH": str(spec.epoch),
        "PSBARRIER_REPLICAS": str(spec),
    }
