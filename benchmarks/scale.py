"""Many members on one etcd: how long they take to start, to meet and to end, and what each costs etcd.

    python -m benchmarks.scale [--members 100 1000] [--processes 8] [--barriers 10] [--rounds 1] [--out DIR] [--json]

Each member has its own lease and watch; they share at most --processes processes, and in each of those one connection. The
clock of each phase runs from the moment when all begin until the last one has ended it: "start" is join and gate, "barrier"
one meeting in the steady state, "end" is finish() until all know that the job has succeeded. Requests, events and bytes are
etcd's own counters. 10,000 members: --members 100 1000 10000.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

from attrs import frozen

from benchmarks import command, machine
from benchmarks.counters import Counters
from benchmarks.group import Group
from benchmarks.result import Report, Result
from psbarrier.embedded import EtcdServer

PATIENCE = 900.0
"""Seconds for one phase of all."""
TTL = 1800
"""Seconds: no beat falls into a run. Those of 10,000 members at the default TTL alone would keep two cores busy."""


ACTIONS = {"start": "start", "define": "", "meet": "barrier", "end": "end"}
"""What the members do, and under which name it is shown; the first meeting, which makes the barrier, is not."""


@frozen
class Phase:
    """What one phase cost: of `times` repetitions, seconds for all, and etcd's counts."""

    name: str
    seconds: float
    counts: Counters
    times: int = 1


def measure(size: int, processes: int, barriers: int) -> Iterator[Phase]:
    """The phases of one job of `size` members, on an etcd of its own."""
    shares = [size // processes + (number < size % processes) for number in range(min(processes, size))]
    firsts = [sum(shares[:number]) for number in range(len(shares))]
    with EtcdServer() as etcd:
        arguments = [
            (etcd.endpoint, first, share, size, barriers, TTL) for first, share in zip(firsts, shares, strict=True)
        ]
        with Group("benchmarks.scale_party", arguments, patience=PATIENCE) as group:
            before = Counters.read(etcd.endpoint)
            for action, name in ACTIONS.items():
                times = barriers if action == "meet" else 1
                seconds = group.together(action).span
                after = Counters.read(etcd.endpoint)
                if name:
                    yield Phase(name, seconds, after - before, times)
                before = after


def samples(sizes: list[int], rounds: int, processes: int, barriers: int) -> dict[tuple[int, str], list[Phase]]:
    """All phases, by size and name; the sizes take turns."""
    found: dict[tuple[int, str], list[Phase]] = {}
    for number in range(rounds):
        for size in sizes:
            command.progress(f"round {number + 1} of {rounds}: {size} members")
            for phase in measure(size, processes, barriers):
                command.progress(f"  {phase.name}: {phase.seconds:.2f} s, {dict(phase.counts.requests)}")
                found.setdefault((size, phase.name), []).append(phase)
    return found


def reports(options: argparse.Namespace) -> list[Report]:
    """Pictures of seconds, counts and bytes; and, of two sizes, how the time of each member grows."""
    found = samples(options.members, options.rounds, options.processes, options.barriers)
    facts = machine.facts()
    title = f"members in {options.processes} processes, one etcd"

    def report(benchmark: str, what: str, results: list[Result]) -> Report:
        return Report(benchmark, f"{what}: {title}", results, facts, axis="members")

    times, counts, sent = [], [], []
    for (size, name), phases in found.items():
        at = {"members": size}
        times.append(Result(name, at, "s", [phase.seconds / phase.times for phase in phases]))
        each = [(phase.counts, phase.times * size) for phase in phases]
        counts.append(Result(f"{name}, requests", at, "", [count.total / n for count, n in each]))
        counts.append(Result(f"{name}, events", at, "", [count.events / n for count, n in each]))
        sent.append(Result(name, at, "KB", [count.sent / n / 1000 for count, n in each]))
    growth = [
        Result(name, {"members": large, "before": small}, "", [_growth(found, name, small, large)])
        for small, large in zip(sorted(options.members), sorted(options.members)[1:], strict=False)
        for name in ("start", "barrier", "end")
        if large == max(options.members)
    ]
    made = [
        report("scale", "Time", times),
        report("scale-counts", "Requests and events per member", counts),
        report("scale-bytes", "Bytes sent by etcd per member", sent),
    ]
    if growth:
        made.append(
            Report("scale-growth", "Time per member at the largest size, of that at the size before", growth, facts)
        )
    return made


def _growth(found: dict[tuple[int, str], list[Phase]], name: str, small: int, large: int) -> float:
    """How many times longer a member takes at the larger size."""

    def each(size: int) -> float:
        return statistics.median(phase.seconds for phase in found[size, name]) / size

    return each(large) / each(small)


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--barriers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    command.run(parser.parse_args(), reports)


if __name__ == "__main__":
    main()
