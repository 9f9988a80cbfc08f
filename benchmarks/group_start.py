"""How soon a group has started: separate processes, from the first that begins to the last that knows all the others.

    python -m benchmarks.group_start [--processes 8 32] [--rounds 3] [--contestants NAME …] [--json]

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
from collections.abc import Callable

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

    def start(self, endpoint: str, size: int) -> float:
        """Seconds until so many processes have started."""
        given = [endpoint, f"s{uuid.uuid4().hex[:8]}", size]
        if self.backend is not None:
            given.insert(0, self.backend)
        group = Group(
            f"benchmarks.starts.{self.program}", [[*given, index] for index in range(size)], patience=PATIENCE
        )
        with group:
            took = group.together("start").span
            if self.backend is not None:
                group.together("tell")
                group.together("prove")
            return took

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


def measure(options: argparse.Namespace) -> Report:
    """Each size in turn."""
    results: list[Result] = []
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(EtcdServer())
        # One of its own: the old API has a store of its own, too.
        legacy = EtcdServer(extra_args=["--enable-v2"])
        for size in options.processes:
            able = []
            for contestant in CONTESTANTS:
                if contestant.name not in options.contestants:
                    continue
                reason = contestant.obstacle(size)
                if reason is None:
                    able.append(contestant)
                else:
                    left_out[f"{contestant.name}, {size} processes"] = reason
            if any(contestant.backend == "etcd-v2" for contestant in able) and legacy.pid is None:
                stack.enter_context(legacy)
            found, failed = compare(able, size, options.rounds, lambda backend: _endpoint(backend, etcd, legacy))
            results += found
            left_out |= failed
    return Report(
        benchmark="group_start",
        title="Start of a group, from imported to all hold the spec",
        results=results,
        machine=machine.facts(),
        axis="processes",
        left_out=left_out,
    )


def compare(
    able: list[Contestant], size: int, rounds: int, endpoint: Callable[[str | None], str]
) -> tuple[list[Result], dict[str, str]]:
    """All contestants at one size, in turn; and which starts failed, and why."""
    left_out = {}
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in able}
    for number in range(rounds):
        for contestant in able:
            try:
                took = contestant.start(endpoint(contestant.backend), size)
            except GroupError as error:
                command.progress(f"{contestant.name}: {error}")
                left_out[f"{contestant.name}, {size} processes, round {number + 1}"] = error.brief
                continue
            command.progress(f"{contestant.name}, {size} processes, round {number + 1} of {rounds}: {took:.3f} s")
            seconds[contestant.name].append(took)
    results = [Result(name, {"processes": size}, "s", samples) for name, samples in seconds.items() if samples]
    return results, left_out


def _endpoint(backend: str | None, etcd: EtcdServer, legacy: EtcdServer) -> str:
    if backend == "c10d":
        return f"127.0.0.1:{free_ports(1)[0]}"
    return (legacy if backend == "etcd-v2" else etcd).endpoint


def main() -> None:
    """The command."""
    names = [contestant.name for contestant in CONTESTANTS]
    parser = command.parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestants", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
