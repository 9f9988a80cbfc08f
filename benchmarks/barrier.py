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
from benchmarks.group import Group, GroupError
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


@frozen
class Servers:
    """What the contestants meet over; None where there is none."""

    etcd: EtcdServer
    keeper: ZooKeeper | None


class Field:
    """The contestants at one size, ready to meet; who fails is left out from then on, with the reason."""

    def __init__(self, stack: contextlib.ExitStack, servers: Servers, size: int) -> None:
        self._stack = stack
        self._servers = servers
        self._size = size
        self._path = f"b{uuid.uuid4().hex[:8]}"
        self._contestants: list[Contestant] = []
        self.left_out: dict[str, str] = {}

    def enter(self, rounds: int) -> None:
        """Start all; so many rounds are to come."""
        etcd, size = self._servers.etcd.endpoint, self._size
        self._start("ours", [(etcd, self._path, size, index) for index in range(size)], ((OURS, "meet"),))
        self._start("bare", [(etcd, f"/{self._path}", size, rounds)] * size, ((BARE, "meet"),))
        if self._servers.keeper is not None:
            keeper = self._servers.keeper.endpoint
            # None may leave before all have entered: the first one's leave() takes the sign away that the last one's
            # enter() is about to look for, and that one would wait for ever.
            steps = ((ENTER, "enter"), (BOTH, "leave"))
            self._start("kazoo", [(keeper, self._path, size, index) for index in range(size)], steps)
        reason = machine.obstacle("torch", size)
        if reason is not None:
            self.left_out[TORCH] = reason
            return
        port = free_ports(1)[0]
        self._start("torch", [(port, size, index) for index in range(size)], ((TORCH, "meet"),))

    def _start(self, module: str, arguments: list[tuple[object, ...]], steps: tuple[tuple[str, str], ...]) -> None:
        try:
            group = self._stack.enter_context(Group(f"benchmarks.barriers.{module}", arguments))
        except GroupError as error:
            self._fail(steps[0][0], error)
        else:
            self._contestants.append(Contestant(group, steps))

    def round(self) -> dict[str, float]:
        """Seconds, by name."""
        seconds: dict[str, float] = {}
        for contestant in list(self._contestants):
            try:
                seconds.update(contestant.round())
            except GroupError as error:
                self._contestants.remove(contestant)
                self._fail(contestant.steps[0][0], error)
        return seconds

    def _fail(self, name: str, error: GroupError) -> None:
        command.progress(f"{name}: {error}")
        self.left_out[name] = error.brief


def measure(options: argparse.Namespace) -> Report:
    """Each size in turn."""
    results: list[Result] = []
    left_out, versions = {}, {}
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(EtcdServer(extra_args=["--unsafe-no-fsync=false"] if options.fsync else []))
        reason = zookeeper.obstacle() or machine.obstacle("kazoo", 1)
        if reason is not None:
            left_out["kazoo"] = reason
        keeper = stack.enter_context(ZooKeeper(fsync=options.fsync)) if reason is None else None
        if keeper is not None:
            versions["ZooKeeper"] = keeper.version
        for size in options.processes:
            command.progress(f"barrier of {size}")
            found, absent = compare(Servers(etcd, keeper), size, options.rounds)
            results += found
            left_out |= {f"{name}, {size} processes": reason for name, reason in absent.items()}
    return Report(
        benchmark="barrier",
        title="A barrier, first arrival to last release",
        results=results,
        machine=machine.facts(**versions),
        axis="processes",
        left_out=left_out,
    )


def compare(servers: Servers, size: int, rounds: int) -> tuple[list[Result], dict[str, str]]:
    """All contestants at one size, in turn; and who was left out, and why."""
    seconds: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        field = Field(stack, servers, size)
        field.enter(WARM_UP + rounds)
        for number in range(WARM_UP + rounds):
            for name, took in field.round().items():
                if number >= WARM_UP:
                    seconds.setdefault(name, []).append(took)
    results = [Result(name, {"processes": size}, "s", samples) for name, samples in seconds.items()]
    return results, field.left_out


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--fsync", action="store_true", help="let etcd and ZooKeeper wait for the disk at each write")
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
