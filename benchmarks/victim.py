"""A member that passes the gate and then ends, in the way it is asked to."""

from __future__ import annotations

import os
import sys

import psbarrier
from benchmarks import party

POLICY = psbarrier.Policy(success=("watcher",), max_restarts=1, loss_grace=3600.0)


def main(endpoint: str, job: str, others: int, ttl: int, guardian: str) -> None:
    """Join, unless a guardian above has done that; tell the process that is to be killed; end when told."""
    if "PSBARRIER_SESSION" in os.environ:
        me = psbarrier.join()
    else:
        me = psbarrier.join(
            endpoint,
            job,
            "victim",
            0,
            run="run",
            replicas={"victim": 1, "watcher": others},
            address="127.0.0.1:1",
            ttl=ttl,
            guardian=guardian == "guardian",
            policy=POLICY,
        )
    with me:
        me.cluster(timeout=60)
        party.say("ready")
        party.hear()
        party.say("process", os.getpid())
        match party.hear():
            case ["raise"]:
                raise SystemExit(3)
            case ["leave"]:
                me.leave()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
