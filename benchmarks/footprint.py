"""What a member costs its own machine: import time, memory, threads and open files, and an idle crowd's CPU and requests.

    python -m benchmarks.footprint [--rounds 5] [--crowd 100] [--seconds 30] [--out DIR] [--json]

The members of a job of two, one of whom leads it, are compared with a process that only imports grpc, in the same round. Memory
is the resident set. The crowd is a job of --crowd members with the default TTL, in one process and on one connection, that does
nothing for --seconds; its requests are counted by etcd.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from benchmarks import command, machine
from benchmarks.counters import Counters
from benchmarks.group import Group
from benchmarks.result import Report, Result
from psbarrier.embedded import EtcdServer

IMPORT = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
MODULES = ("psbarrier", "grpc")
TTL = 15
"""Seconds: the default."""


@frozen
class Footprint:
    """What one process has; memory in MB."""

    memory: float
    python_threads: int
    threads: int
    files: int
    leads: bool

    def beyond(self, other: Footprint) -> dict[str, float]:
        """How much more than the other's, by name."""
        return {
            "memory, MB": self.memory - other.memory,
            "Python threads": self.python_threads - other.python_threads,
            "threads, gRPC's included": self.threads - other.threads,
            "open files": self.files - other.files,
        }


def footprints(*argument_lists: Sequence[str]) -> list[Footprint]:
    """Of processes that do what footprint_party.py does with these arguments."""
    with Group("benchmarks.footprint_party", argument_lists) as group:
        group.say("threads")
        counts = group.hear("threads")
        return [
            _footprint(process.pid, int(threads), leads == "1")
            for process, (threads, leads) in zip(group.processes, counts, strict=True)
        ]


def _footprint(process: int, python_threads: int, leads: bool) -> Footprint:
    status = Path(f"/proc/{process}/status").read_text()
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return Footprint(_number("VmRSS", status) / 1024, python_threads, _number("Threads", status), files, leads)


def _number(name: str, status: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def import_seconds(module: str) -> float:
    """In a fresh interpreter."""
    code = [sys.executable, "-c", IMPORT.format(module)]
    return float(subprocess.run(code, capture_output=True, text=True, check=True).stdout)


def crowd(size: int, seconds: float) -> tuple[float, float]:
    """Requests a minute of each of `size` idle members, and what share of one core all of them take, in percent."""
    with EtcdServer() as etcd, Group("benchmarks.scale_party", [(etcd.endpoint, 0, size, size, 1, TTL)]) as group:
        group.together("start")
        time.sleep(1.0)  # what is left of the start
        process = group.processes[0].pid
        before, used = Counters.read(etcd.endpoint), _cpu(process)
        time.sleep(seconds)
        spent, used = Counters.read(etcd.endpoint) - before, _cpu(process) - used
        group.together("end")
    return spent.total / size * 60 / seconds, 100 * used / seconds


def _cpu(process: int) -> float:
    """Seconds of CPU that it has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(options: argparse.Namespace) -> list[Report]:
    """Two pictures: seconds, and everything else."""
    imports: dict[str, list[float]] = {module: [] for module in MODULES}
    more: dict[str, list[float]] = {}
    with EtcdServer() as etcd:
        for number in range(options.rounds):
            for module, seconds in imports.items():
                seconds.append(import_seconds(module))
            job = f"f{uuid.uuid4().hex[:8]}"
            (nothing,) = footprints([])
            for member in footprints([etcd.endpoint, job, "0"], [etcd.endpoint, job, "1"]):
                for name, value in member.beyond(nothing).items():
                    more.setdefault(f"{name}, of the leader" if member.leads else name, []).append(value)
            command.progress(f"footprint, round {number + 1} of {options.rounds}")
    requests, cpu = crowd(options.crowd, options.seconds)
    facts = machine.facts()
    return [
        Report(
            "footprint-import",
            "Importing, in a fresh interpreter",
            [Result(f"import {module}", {}, "s", seconds) for module, seconds in imports.items()],
            facts,
        ),
        Report(
            "footprint",
            "A member: more than a process that only imports grpc",
            [
                *(Result(name, {}, "", values) for name, values in more.items()),
                Result("idle requests a minute", {}, "", [requests]),
                Result("CPU of an idle crowd, % of a core", {"members": options.crowd}, "", [cpu]),
            ],
            facts,
        ),
    ]


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crowd", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
