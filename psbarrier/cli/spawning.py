"""Spawning: the command with the variables, the cluster file and the streams that it finds."""

from __future__ import annotations

import os
from pathlib import Path

from psbarrier.cli import environment
from psbarrier.cli.child import Child
from psbarrier.cli.plan import Plan
from psbarrier.cli.surroundings import Surroundings
from psbarrier.errors import InvalidArgumentError
from psbarrier.protocol.handover import Handover
from psbarrier.spec import ClusterSpec, Task


def spawn(plan: Plan, around: Surroundings, spec: ClusterSpec, handover: Handover) -> Child:
    """Start the command of a plan as the task that is handed over; InvalidArgumentError when it cannot be started."""
    task = handover.standing.task
    variables = {
        **environment.inherited(os.environ),
        **around.etcd,
        **environment.handed(handover),
        **environment.emitted(plan.emit, spec, task),
        "PSBARRIER_CLUSTER_FILE": str(write_cluster(around, spec, task)),
    }
    if around.streams is None:
        return _child(plan, around, variables, task, None, None, None)
    opened = around.streams.open(task)
    try:
        # Or a Python's lines would come in blocks, and late.
        return _child(plan, around, {"PYTHONUNBUFFERED": "1", **variables}, task, *opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def write_cluster(around: Surroundings, spec: ClusterSpec, task: Task) -> Path:
    """Write the file that PSBARRIER_CLUSTER_FILE names for this task; its path. InvalidArgumentError when it cannot be."""
    try:
        return around.workspace.write(f"{task.role}-{task.index}.json", environment.cluster_file(spec))
    except OSError as error:
        raise InvalidArgumentError(
            f"the cluster file of {task} cannot be written: {error}; set TMPDIR to a folder that can be written"
        ) from error


def _child(plan: Plan, around: Surroundings, variables: dict[str, str], task: Task, *streams: int | None) -> Child:
    try:
        return Child(plan.command, variables, around.workspace.sitter, *streams)
    except OSError as error:
        raise InvalidArgumentError(f"the command of {task} cannot be started: {error.strerror}") from error
