"""How soon the others know that a task is gone: from the end of its process until every other member has heard.

    python -m benchmarks.detection [--rounds 10] [--others 8] [--json]

One etcd, one process that ends in different ways, and the other members in this process, each over a connection of its
own. Each round is a new job, which has been running for a while. The TTL is 60 s, except where the TTL is what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
import uuid

from attrs import frozen

import psbarrier
from benchmarks import command, machine
from benchmarks.group import Group
from benchmarks.result import Report, Result
from benchmarks.victim import POLICY
from benchmarks.waiting import await_true
from psbarrier.embedded import EtcdServer

VICTIM = psbarrier.Task("victim", 0)
QUIET = 0.5  # seconds; a list of the gone that follows another one sooner than 0.25 s waits for that


@frozen
class Way:
    """A way to end: under `psbarrier run`, with a guardian, or bare; killed, or by itself; at which TTL."""

    name: str
    host: str = "bare"
    end: str = "kill"
    ttl: int = 60

    def wrapper(self, endpoint: str, job: str, others: int) -> list[str]:
        """The command that runs the process, if any."""
        if self.host != "run":
            return []
        options = ["--endpoints", endpoint, "--job", job, "--run", "run", "--role", "victim", "--index", "0"]
        options += ["--replicas", f"victim=1,watcher={others}", "--ttl", str(self.ttl), "--address", "127.0.0.1:1"]
        options += ["--success", "watcher", "--max-restarts", "1", "--loss-grace", "3600"]
        return [sys.executable, "-c", "from psbarrier.cli.main import main; main()", "run", *options, "--"]


WAYS = (
    Way("SIGKILL of the command of psbarrier run", host="run"),
    Way("SIGKILL, join(guardian=True)", host="guardian"),
    Way("the block is left by an exception", end="raise"),
    Way("the block is left: finished", end="finish"),
    Way("leave()", end="leave"),
    Way("SIGKILL without a guardian, TTL 5 s", ttl=5),
)


def one_round(endpoint: str, way: Way, others: int) -> float:
    """Seconds."""
    job = f"d{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(contextlib.closing(_watch(endpoint, job, n, others))) for n in range(others)]
        group = Group(
            "benchmarks.victim",
            [[endpoint, job, others, way.ttl, way.host]],
            wrapper=way.wrapper(endpoint, job, others),
        )
        with group:
            group.say("who")
            ((pid,),) = group.hear("process")
            for watcher in watchers:
                watcher.cluster(timeout=60)
            time.sleep(QUIET)
            began = time.monotonic()
            if way.end == "kill":
                os.kill(int(pid), signal.SIGKILL)
            else:
                group.say(way.end)
            await_true(lambda: all(_knows(watcher) for watcher in watchers), "all of the others have heard")
            return time.monotonic() - began


def _watch(endpoint: str, job: str, index: int, others: int) -> psbarrier.Member:
    replicas = {"victim": 1, "watcher": others}
    return psbarrier.join(
        endpoint, job, "watcher", index, run="run", replicas=replicas, address="127.0.0.1:1", ttl=60, policy=POLICY
    )


def _knows(watcher: psbarrier.Member) -> bool:
    gone = watcher._view.gone
    return VICTIM in gone.lost or VICTIM in gone.finished


def measure(options: argparse.Namespace) -> Report:
    """Each way in turn, round by round."""
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS if way.name in options.ways}
    with EtcdServer() as etcd:
        for number in range(options.rounds):
            for way, samples in seconds.items():
                # Each of these takes a TTL.
                if way.end == "kill" and way.host == "bare" and number % 4:
                    continue
                samples.append(one_round(etcd.endpoint, way, options.others))
            command.progress(f"detection, round {number + 1} of {options.rounds}")
    return Report(
        benchmark="detection",
        title=f"From the end of a task until {options.others} others know",
        results=[Result(way.name, {"ttl": way.ttl}, "s", samples) for way, samples in seconds.items()],
        machine=machine.facts(),
    )


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--others", type=int, default=8)
    names = [way.name for way in WAYS]
    parser.add_argument("--ways", nargs="+", choices=names, default=names, metavar="WAY", help="; ".join(names))
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
