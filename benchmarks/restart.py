"""How soon a job goes on after one of its members was killed and started again: until all members hold the new epoch.

    python -m benchmarks.restart [--members 8] [--rounds 5] [--out DIR] [--json]

Each member is a process. One is ended by SIGKILL, and its successor, which has imported everything and says
takeover="force", is told to join; the clock runs from then until the last of all members holds the spec that names it.
The others wait in changes(), as a parameter server does.
"""

from __future__ import annotations

import argparse
import time
import uuid

from benchmarks import command, machine
from benchmarks.group import Group
from benchmarks.result import Report, Result
from psbarrier.embedded import EtcdServer

PROGRAM = "benchmarks.restart_party"


def measure(options: argparse.Namespace) -> Report:
    """Each round is a job of its own."""
    seconds = []
    with EtcdServer() as etcd:
        for number in range(options.rounds):
            seconds.append(one_round(etcd.endpoint, options.members))
            command.progress(f"restart, round {number + 1} of {options.rounds}")
    return Report(
        benchmark="restart",
        title="From the start of a killed member's successor until all hold the new epoch",
        results=[Result("psbarrier", {"members": options.members}, "s", seconds)],
        machine=machine.facts(),
    )


def one_round(endpoint: str, size: int) -> float:
    """Seconds."""
    job = f"r{uuid.uuid4().hex[:8]}"
    everybody = [(endpoint, job, size, index) for index in range(size)]
    with (
        Group(PROGRAM, everybody[:-1]) as others,
        Group(PROGRAM, everybody[-1:]) as victim,
        Group(PROGRAM, everybody[-1:]) as successor,
    ):
        for group in (others, victim):
            group.say("start", time.monotonic())
        for group in (others, victim):
            group.hear("done")
        others.say("follow", time.monotonic())
        victim.processes[0].kill()
        victim.processes[0].wait()
        began = successor.together("start")
        ended = [float(ended) for _, ended in others.hear("done")]
        return max(*ended, *began.ended) - min(began.began)


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
