"""A member of a job of which one member is killed and started again.

python -m benchmarks.restart_party ENDPOINT JOB SIZE INDEX
"""

from __future__ import annotations

import contextlib
import sys

import psbarrier
import psbarrier.store.etcd
from benchmarks import party

PATIENCE = 120.0
POLICY = psbarrier.Policy(max_restarts=1000, loss_grace=600.0)


def main(endpoint: str, job: str, size: int, index: int) -> None:
    """One process. What join() imports only when it is called is imported before the clock starts."""
    with contextlib.ExitStack() as stack:
        members: list[psbarrier.Member] = []

        def start() -> None:
            me = psbarrier.join(
                endpoint,
                job,
                "worker",
                index,
                run="run",
                replicas={"worker": size},
                address=f"127.0.0.1:{10000 + index}",
                ttl=60,
                takeover="force",
                policy=POLICY,
                timeout=PATIENCE,
            )
            members.append(stack.enter_context(contextlib.closing(me)))
            me.cluster(PATIENCE)

        def follow() -> None:
            """Until the next epoch."""
            next(members[-1].changes(PATIENCE))

        party.perform({"start": start, "follow": follow})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
