"""How long a barrier takes: separate processes that meet again and again, from the first arrival to the last release.

    python -m benchmarks.barrier [--processes 2 8 32] [--rounds 30] [--fsync] [--json]

All parties of a round arrive at one moment. The contestants take turns, round by round, so that whatever else the machine
does meets all of them, and their ratios mean more than their times. They are

- psbarrier's barrier, each party a member of a job;
- kazoo's DoubleBarrier on a real ZooKeeper (Debian: apt-get install zookeeper): enter() alone, and enter() and leave();
- torch's barrier over its TCPStore, in the memory of one of the parties: nothing survives it;
- a bare loop over grpc on the same etcd: one transaction, one event, request bytes that were prepared.

Neither etcd nor ZooKeeper waits for its disk, unless with --fsync.
"""

from __future__ import annotations

import argparse
import contextlib
import uuid
from collections.abc import Iterator

from attrs import frozen

from benchmarks import command, machine, zookeeper
from benchmarks.group import Group
from benchmarks.result import Report, Result
from benchmarks.zookeeper import ZooKeeper
from psbarrier.embedded import EtcdServer, free_ports

WARM_UP = 15  # rounds; Java needs them
OURS, BARE = "psbarrier", "bare loop"
ENTER, BOTH, TORCH = "kazoo enter()", "kazoo enter() + leave()", "torch TCPStore"


@frozen
class Contestant:
    """What its parties do in a round, step by step, and under which name the time until the end of each step is known."""

    group: Group
    steps: tuple[tuple[str, str], ...]

    def round(self) -> Iterator[tuple[str, float]]:
        """Names, and seconds."""
        took = 0.0
        for name, action in self.steps:
            took += self.group.together(action).span
            yield name, took


def contestants(
    stack: contextlib.ExitStack, size: int, rounds: int, etcd: EtcdServer, keeper: ZooKeeper | None, *, torch: bool
) -> list[Contestant]:
    """All of them, ready to meet, until `stack` is closed."""

    def start(module: str, *arguments: object, indexed: bool = True) -> Group:
        each = [(*arguments, index) if indexed else arguments for index in range(size)]
        return stack.enter_context(Group(f"benchmarks.barriers.{module}", each))

    path = f"b{uuid.uuid4().hex[:8]}"
    made = [
        Contestant(start("ours", etcd.endpoint, path, size), ((OURS, "meet"),)),
        Contestant(start("bare", etcd.endpoint, f"/{path}", size, rounds, indexed=False), ((BARE, "meet"),)),
    ]
    if keeper is not None:
        # None may leave before all have entered: the first one's leave() takes the sign away that the last one's enter()
        # is about to look for, and that one would wait for ever.
        made.append(Contestant(start("kazoo", keeper.endpoint, path, size), ((ENTER, "enter"), (BOTH, "leave"))))
    if torch:
        made.append(Contestant(start("torch", free_ports(1)[0], size), ((TORCH, "meet"),)))
    return made


def measure(options: argparse.Namespace) -> Report:
    """Each size in turn."""
    left_out, results = {}, []
    for name, reason in (
        ("kazoo", zookeeper.obstacle() or machine.obstacle("kazoo", 1)),
        (TORCH, machine.obstacle("torch", max(options.processes))),
    ):
        if reason is not None:
            left_out[name] = reason
    versions = {}
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(EtcdServer(extra_args=["--unsafe-no-fsync=false"] if options.fsync else []))
        keeper = None if "kazoo" in left_out else stack.enter_context(ZooKeeper(fsync=options.fsync))
        if keeper is not None:
            versions["ZooKeeper"] = keeper.version
        for size in options.processes:
            command.progress(f"barrier of {size}")
            results += compare(size, options.rounds, etcd, keeper, torch=TORCH not in left_out)
    return Report(
        benchmark="barrier",
        title="A barrier, first arrival to last release",
        results=results,
        machine=machine.facts(**versions),
        axis="processes",
        left_out=left_out,
    )


def compare(size: int, rounds: int, etcd: EtcdServer, keeper: ZooKeeper | None, *, torch: bool) -> list[Result]:
    """All contestants at one size, in turn."""
    with contextlib.ExitStack() as stack:
        taking_part = contestants(stack, size, WARM_UP + rounds, etcd, keeper, torch=torch)
        seconds: dict[str, list[float]] = {}
        for number in range(WARM_UP + rounds):
            for contestant in taking_part:
                for name, took in contestant.round():
                    if number >= WARM_UP:
                        seconds.setdefault(name, []).append(took)
    return [Result(name, {"processes": size}, "s", samples) for name, samples in seconds.items()]


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--fsync", action="store_true", help="let etcd and ZooKeeper wait for the disk at each write")
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
