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
from collections.abc import Sequence

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
class Round:
    """Seconds from the first arrival, and seconds of processors for each party; by name."""

    seconds: dict[str, float]
    cpu: dict[str, float]


@frozen
class Contestant:
    """What its parties do in a round, step by step, and under which name the time until the end of each step is known.

    `server` is the process that they meet over, if it is not one of them.
    """

    group: Group
    steps: tuple[tuple[str, str], ...]
    server: int | None

    @property
    def name(self) -> str:
        """That of all its steps."""
        return self.steps[-1][0]

    def round(self) -> Round:
        """All steps."""
        took, seconds = 0.0, {}
        before = self._cpu()
        for name, action in self.steps:
            took += self.group.together(action).span
            seconds[name] = took
        used = {name: (after - before[name]) / len(self.group) for name, after in self._cpu().items()}
        return Round(seconds, used)

    def _cpu(self) -> dict[str, float]:
        used = {f"{self.name}: a party": machine.cpu_seconds(process.pid for process in self.group.processes)}
        if self.server is not None:
            used[f"{self.name}: the server"] = machine.cpu_seconds([self.server])
        return used


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
        pid = self._servers.etcd.pid
        self._start("ours", [(etcd, self._path, size, index) for index in range(size)], ((OURS, "meet"),), pid)
        self._start("bare", [(etcd, f"/{self._path}", size, rounds)] * size, ((BARE, "meet"),), pid)
        if self._servers.keeper is not None:
            keeper = self._servers.keeper
            # None may leave before all have entered: the first one's leave() takes the sign away that the last one's
            # enter() is about to look for, and that one would wait for ever.
            steps = ((ENTER, "enter"), (BOTH, "leave"))
            each = [(keeper.endpoint, self._path, size, index) for index in range(size)]
            self._start("kazoo", each, steps, keeper.pid)
        reason = machine.obstacle("torch", size)
        if reason is not None:
            self.left_out[TORCH] = reason
            return
        port = free_ports(1)[0]
        self._start("torch", [(port, size, index) for index in range(size)], ((TORCH, "meet"),))

    def _start(
        self,
        module: str,
        arguments: Sequence[tuple[object, ...]],
        steps: tuple[tuple[str, str], ...],
        server: int | None = None,
    ) -> None:
        try:
            group = self._stack.enter_context(Group(f"benchmarks.barriers.{module}", arguments))
        except GroupError as error:
            self._fail(steps[-1][0], error)
        else:
            self._contestants.append(Contestant(group, steps, server))

    def round(self) -> list[Round]:
        """One of each, in turn."""
        rounds = []
        for contestant in list(self._contestants):
            try:
                rounds.append(contestant.round())
            except GroupError as error:
                self._contestants.remove(contestant)
                self._fail(contestant.name, error)
        return rounds

    def _fail(self, name: str, error: GroupError) -> None:
        command.progress(f"{name}: {error}")
        self.left_out[name] = error.brief


def measure(options: argparse.Namespace) -> list[Report]:
    """Each size in turn."""
    times: list[Result] = []
    cpu: list[Result] = []
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
            rounds, absent = compare(Servers(etcd, keeper), size, options.rounds)
            times += _results(size, [one.seconds for one in rounds])
            cpu += _results(size, [one.cpu for one in rounds])
            left_out |= {f"{name}, {size} processes": reason for name, reason in absent.items()}
    facts = machine.facts(**versions)
    return [
        Report("barrier", "A barrier, first arrival to last release", times, facts, "processes", left_out),
        Report("barrier-cpu", "Processor time of a barrier, for each party", cpu, facts, "processes"),
    ]


def compare(servers: Servers, size: int, rounds: int) -> tuple[list[Round], dict[str, str]]:
    """All contestants at one size, in turn, once they are warm; and who was left out, and why."""
    found: list[Round] = []
    with contextlib.ExitStack() as stack:
        field = Field(stack, servers, size)
        field.enter(WARM_UP + rounds)
        for number in range(WARM_UP + rounds):
            rounds_of_all = field.round()
            if number >= WARM_UP:
                found += rounds_of_all
    return found, field.left_out


def _results(size: int, samples: list[dict[str, float]]) -> list[Result]:
    names = dict.fromkeys(name for sample in samples for name in sample)
    return [
        Result(name, {"processes": size}, "s", [sample[name] for sample in samples if name in sample]) for name in names
    ]


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--fsync", action="store_true", help="let etcd and ZooKeeper wait for the disk at each write")
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
