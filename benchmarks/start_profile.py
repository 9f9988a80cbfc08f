"""Where the processor time of a process goes in the start of a group: by thread, and in the thread that calls, by step.

    python -m benchmarks.start_profile [--processes 32] [--rounds 3]

Each process is new, and does nearly all of it for the first time. The marks between the steps cost half a millisecond together.
"""

from __future__ import annotations

import argparse
import uuid

from benchmarks import command, machine
from benchmarks.group import Group
from benchmarks.result import Report
from benchmarks.starts.profiled import PARTS
from benchmarks.steps import results
from psbarrier.embedded import EtcdServer


def measure(options: argparse.Namespace) -> list[Report]:
    """One sample for each process of each round."""
    size = options.processes
    said: list[list[str]] = []
    with EtcdServer() as etcd:
        for number in range(options.rounds):
            said += one_round(etcd.endpoint, size)
            command.progress(f"start_profile, round {number + 1} of {options.rounds}")
    title = f"Processor time of a process in the start of {size}, by step and by thread"
    return [Report("start_profile", title, results(PARTS, said), machine.facts())]


def one_round(endpoint: str, size: int) -> list[list[str]]:
    """What each process of a new group says that it took for each of PARTS, in seconds."""
    job = f"s{uuid.uuid4().hex[:8]}"
    with Group("benchmarks.starts.profiled", [(endpoint, job, size, index) for index in range(size)]) as group:
        group.together("start")
        group.say()
        return group.hear("used")


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
