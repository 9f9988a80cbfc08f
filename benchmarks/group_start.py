"""How soon a group has started: separate processes, from the first that begins to the last that knows all the others.

    python -m benchmarks.group_start [--processes 8] [--rounds 3] [--contestants NAME …] [--json]

Each process has imported everything and then begins at the same moment as the others; each round has new processes. The
contestants take turns. They are

- psbarrier: join() and the gate, until each holds the sealed spec;
- psbarrier as torchrun's rendezvous, and torchrun's own: c10d, and etcd-v2 where etcd has the API of version 2 (before 3.6);
- Paddle's launcher with its ETCDMaster, which holds no lease;
- a bare start over grpc on the same etcd: connect, a lease and its keep-alive, one transaction, one event, one read, with
  request bytes that were prepared.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import uuid
from collections.abc import Sequence

from attrs import frozen

from benchmarks import command, machine
from benchmarks.group import Group, GroupError
from benchmarks.result import Report, Result
from psbarrier.embedded import EtcdServer, free_ports

PATIENCE = 900.0  # seconds for a start; etcd-v2 has taken 200 for 128 nodes
OURS, BARE, C10D = "psbarrier", "bare start", "torchrun, c10d"


@frozen
class Contestant:
    """`program` is its processes' module in benchmarks/starts, which import `module` for the most part."""

    name: str
    program: str
    module: str
    backend: str | None = None

    def start(self, endpoint: str, size: int, server: int | None) -> tuple[float, dict[str, float]]:
        """Seconds until so many processes have started, and what each took of the processors, the server's share too."""
        given = [endpoint, f"s{uuid.uuid4().hex[:8]}", size]
        if self.backend is not None:
            given.insert(0, self.backend)
        group = Group(
            f"benchmarks.starts.{self.program}", [[*given, index] for index in range(size)], patience=PATIENCE
        )
        with group:
            before = self._cpu(group, server)
            took = group.together("start").span
            cpu = {name: (after - before[name]) / size for name, after in self._cpu(group, server).items()}
            if self.backend is not None:
                group.together("tell")
                group.together("prove")
            return took, cpu

    def _cpu(self, group: Group, server: int | None) -> dict[str, float]:
        used = {f"{self.name}: a process": machine.cpu_seconds(process.pid for process in group.processes)}
        if server is not None:
            used[f"{self.name}: the server"] = machine.cpu_seconds([server])
        return used

    def obstacle(self, size: int) -> str | None:
        """Why it cannot take part; None where it can."""
        if self.backend == "etcd-v2":
            if EtcdServer().version >= (3, 6):
                return "this etcd has no API of version 2"
            if importlib.util.find_spec("etcd") is None:
                return "the Python package python-etcd is not installed"
        return machine.obstacle(self.module, size)


CONTESTANTS = (
    Contestant(OURS, "ours", "psbarrier"),
    Contestant(BARE, "bare", "grpc"),
    Contestant("Paddle ETCDMaster", "paddle", "paddle"),
    Contestant("torchrun, psbarrier", "torch", "torch", "psbarrier"),
    Contestant(C10D, "torch", "torch", "c10d"),
    Contestant("torchrun, etcd-v2", "torch", "torch", "etcd-v2"),
)


class Servers:
    """The etcds that groups start over. torch's old API has one of its own, for it has a store of its own, too."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._etcd = stack.enter_context(EtcdServer())
        self._legacy = EtcdServer(extra_args=["--enable-v2"])

    def of(self, contestant: Contestant) -> tuple[str, int | None]:
        """The endpoint for a start, and the process that serves it, if that is not one of the group."""
        if contestant.backend == "c10d":
            return f"127.0.0.1:{free_ports(1)[0]}", None
        if contestant.backend != "etcd-v2":
            return self._etcd.endpoint, self._etcd.pid
        if self._legacy.pid is None:
            self._stack.enter_context(self._legacy)
        return self._legacy.endpoint, self._legacy.pid


class Race:
    """All contestants at one size, in turn: what they showed, and who was left out, and why."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seconds: dict[str, list[float]] = {}
        self._cpu: dict[str, list[float]] = {}
        self.left_out: dict[str, str] = {}

    def run(self, names: Sequence[str], rounds: int, servers: Servers) -> None:
        """So many rounds of those of that name that can take part."""
        able = []
        for contestant in CONTESTANTS:
            reason = contestant.obstacle(self._size) if contestant.name in names else None
            if reason is not None:
                self.left_out[f"{contestant.name}, {self._size} processes"] = reason
            elif contestant.name in names:
                able.append(contestant)
        for number in range(rounds):
            for contestant in able:
                self._round(contestant, f"round {number + 1} of {rounds}", servers)

    def _round(self, contestant: Contestant, which: str, servers: Servers) -> None:
        where = f"{contestant.name}, {self._size} processes, {which}"
        endpoint, server = servers.of(contestant)
        try:
            took, cpu = contestant.start(endpoint, self._size, server)
        except GroupError as error:
            command.progress(f"{where}: {error}")
            self.left_out[where] = error.brief
            return
        command.progress(f"{where}: {took:.3f} s")
        self._seconds.setdefault(contestant.name, []).append(took)
        for name, seconds in cpu.items():
            self._cpu.setdefault(name, []).append(seconds)

    def times(self) -> list[Result]:
        """Of the starts."""
        return [Result(name, {"processes": self._size}, "s", samples) for name, samples in self._seconds.items()]

    def cpu(self) -> list[Result]:
        """Of the processors, for each process."""
        return [Result(name, {"processes": self._size}, "s", samples) for name, samples in self._cpu.items()]


def measure(options: argparse.Namespace) -> list[Report]:
    """Each size in turn."""
    races = [Race(size) for size in options.processes]
    with contextlib.ExitStack() as stack:
        servers = Servers(stack)
        for race in races:
            race.run(options.contestants, options.rounds, servers)
    facts = machine.facts()
    times, cpu = [result for race in races for result in race.times()], [r for race in races for r in race.cpu()]
    left_out = {name: reason for race in races for name, reason in race.left_out.items()}
    title = "Start of a group, from imported to all hold the spec"
    return [
        Report("group_start", title, times, facts, "processes", left_out),
        Report("group_start-cpu", "Processor time of a start, for each process", cpu, facts, "processes"),
    ]


def main() -> None:
    """The command."""
    names = [contestant.name for contestant in CONTESTANTS]
    parser = command.parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestants", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
