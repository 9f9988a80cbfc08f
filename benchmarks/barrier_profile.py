"""Where the processor time of a party goes in a barrier: by thread, and in the thread that waits, by step.

    python -m benchmarks.barrier_profile [--processes 2] [--rounds 200] [--pause 0.03]

Between two meetings each party does nothing for --pause seconds, as when contestants take turns: with 0 the caches are warm,
and all takes half as long. The marks between the steps cost 0.1 ms together.
"""

from __future__ import annotations

import argparse

from benchmarks import command, machine
from benchmarks.barriers.profiled import PARTS
from benchmarks.group import Group
from benchmarks.result import Report
from benchmarks.steps import results
from psbarrier.embedded import EtcdServer


def measure(options: argparse.Namespace) -> list[Report]:
    """One sample for each party."""
    with EtcdServer() as etcd:
        size, rounds = options.processes, options.rounds
        arguments = [(etcd.endpoint, size, index, rounds, options.pause) for index in range(size)]
        with Group("benchmarks.barriers.profiled", arguments) as group:
            group.say("go")
            said = group.hear("used")
            group.say("end")
    title = f"Processor time of a party in a barrier of {size}, by step and by thread"
    return [Report("barrier_profile", title, results(PARTS, said), machine.facts())]


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.03, help="seconds")
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
