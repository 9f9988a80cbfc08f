"""What xgboost.collective wants to be told (XGBoost 3): the tracker, and the worker's place.

XGBoost itself reads no environment: a program hands these to CommunicatorContext(dmlc_tracker_uri=…, dmlc_tracker_port=…,
dmlc_task_id=…). Somebody must run the tracker at DMLC_TRACKER_URI and _PORT, which is the address of rank 0's task: the
program of rank 0, with xgboost.tracker.RabitTracker(n_workers, host_ip, port, sortby="task"). It sorts task ids as text,
so they are written with as many digits as the largest has. It sets no SO_REUSEADDR: when all start again and rank 0 has
kept its address, the program must try for a minute to open it, and the other ranks need a dmlc_retry that lasts as long.
"""

from __future__ import annotations

from psbarrier.emit import ranks
from psbarrier.spec import ClusterSpec, Task, host_of, port_of


def environment(spec: ClusterSpec, task: Task) -> dict[str, str]:
    """The variables of `task`; InvalidArgumentError when XGBoost could not take the spec."""
    ranks.check_workers(spec, "XGBoost")
    place = ranks.place(spec, task)
    return {
        "DMLC_TRACKER_URI": host_of(place.first.address),
        "DMLC_TRACKER_PORT": port_of(place.first.address),
        "DMLC_TASK_ID": str(place.rank).zfill(len(str(place.size - 1))),
        "DMLC_NUM_WORKER": str(place.size),
    }
