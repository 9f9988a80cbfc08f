"""How soon all goes on when etcd's leader is killed: from its SIGKILL until operations that begin then are done.

    python -m benchmarks.failover [--rounds 3] [--members 8] [--json]

A cluster of three etcds with etcd's own election timeout of 1 s. The members of one job are threads of this process, each
with a connection of its own; the etcd that was killed is back before the next round.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psbarrier
from benchmarks import command, machine
from benchmarks.result import Report, Result
from psbarrier.etcd_cluster import EtcdCluster

BARRIER, SHARED, START = "a barrier of all", "a value shared with all", "a new job of one task"


def measure(options: argparse.Namespace) -> Report:
    """Round by round."""
    size = options.members
    seconds: dict[str, list[float]] = {BARRIER: [], SHARED: [], START: []}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(EtcdCluster(links=False))
        cluster.wait_ready()
        members = [
            stack.enter_context(contextlib.closing(_join(cluster.endpoints, "members", index, size)))
            for index in range(size)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(2 * size + 1))
        for number in range(options.rounds):
            for member in members:
                member.cluster(timeout=60)
            killed = cluster.kill_leader()
            for name, took in one_round(pool, cluster.endpoints, members, number).items():
                seconds[name].append(took)
            command.progress(f"failover, round {number + 1} of {options.rounds}")
            cluster.members[killed].start()
            cluster.wait_ready()
    return Report(
        benchmark="failover",
        title="From SIGKILL of etcd's leader until all goes on",
        results=[Result(name, {"members": size}, "s", samples) for name, samples in seconds.items()],
        machine=machine.facts(),
    )


def one_round(
    pool: ThreadPoolExecutor, endpoints: str, members: list[psbarrier.Member], number: int
) -> dict[str, float]:
    """Seconds until each is done, for all who take part in it; they begin together."""
    began = time.monotonic()

    def meet(member: psbarrier.Member) -> float:
        member.barrier("meeting").wait(timeout=60)
        return time.monotonic() - began

    def share(member: psbarrier.Member) -> float:
        if member is members[0]:
            member.share(f"value{number}", number)
        assert member.get(f"value{number}", timeout=60) == number
        return time.monotonic() - began

    def start(_: object) -> float:
        with contextlib.closing(_join(endpoints, f"other{number}", 0, 1)) as me:
            me.cluster(timeout=60)
            return time.monotonic() - began

    def begin(action: Callable[[psbarrier.Member], float], who: list[psbarrier.Member]) -> Callable[[], float]:
        calls = [pool.submit(action, member) for member in who]
        return lambda: max(call.result() for call in calls)

    ends = {BARRIER: begin(meet, members), SHARED: begin(share, members), START: begin(start, members[:1])}
    return {name: end() for name, end in ends.items()}


def _join(endpoints: str, job: str, index: int, size: int) -> psbarrier.Member:
    return psbarrier.join(
        endpoints, job, "worker", index, run="run", replicas={"worker": size}, address="127.0.0.1:1", timeout=60
    )


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--members", type=int, default=8)
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
