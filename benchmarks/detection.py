"""How soon the others know that a task is gone: seconds from the end of its process until every other member has heard.

    python benchmarks/detection.py [--rounds 20] [--others 8] [--json]

One etcd, one process that ends in different ways, and the other members in this process, each over a connection of its
own. The TTL is 60 s, except where the TTL is what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from attrs import frozen

import psbarrier
from psbarrier.embedded import EtcdServer

POLICY = psbarrier.Policy(max_restarts=1_000_000, loss_grace=3600.0)
VICTIM = """
import os, signal, sys, psbarrier
endpoint, ttl, guardian, end = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "guardian", sys.argv[4]
who = {} if "PSBARRIER_SESSION" in os.environ else dict(
    store=endpoint, job="detect", role="victim", index=0, run="r", replicas="victim=1,watcher=" + sys.argv[5],
    address="127.0.0.1:1", ttl=ttl, guardian=guardian, policy=psbarrier.Policy(max_restarts=1_000_000, loss_grace=3600.0),
)
with psbarrier.join(**who) as me:
    me.cluster(timeout=60)
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    if end == "raise":
        raise SystemExit(3)
    me.leave()
"""


@frozen
class Way:
    """A way to end: under `psbarrier run`, with a guardian, or bare; killed, or by itself; at which TTL."""

    name: str
    host: str = "bare"
    end: str = "kill"
    ttl: int = 60


WAYS = (
    Way("SIGKILL of the command of psbarrier run", host="run"),
    Way("SIGKILL, join(guardian=True)", host="guardian"),
    Way("the block is left by an exception", end="raise"),
    Way("leave()", end="leave"),
    Way("SIGKILL without a guardian, TTL 5 s", ttl=5),
)


def start(endpoint: str, way: Way, others: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", VICTIM, endpoint, str(way.ttl), way.host, way.end, str(others)]
    if way.host == "run":
        options = ["--endpoints", endpoint, "--job", "detect", "--run", "r", "--role", "victim", "--index", "0"]
        options += ["--replicas", f"victim=1,watcher={others}", "--ttl", str(way.ttl), "--address", "127.0.0.1:1"]
        options += ["--max-restarts", "1000000", "--loss-grace", "3600"]
        main = [sys.executable, "-c", "from psbarrier.cli.main import main; main()"]
        command = [*main, "run", *options, "--", *command]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def measure(endpoint: str, way: Way, watchers: list[psbarrier.Member], rounds: int) -> list[float]:
    victim = psbarrier.Task("victim", 0)

    def everybody(check: Callable[[psbarrier.Member], bool]) -> None:
        while not all(check(member) for member in watchers):
            time.sleep(0.0005)

    found = []
    for _ in range(rounds):
        process = start(endpoint, way, len(watchers))
        assert process.stdout is not None and process.stdin is not None
        pid = int(process.stdout.readline())
        everybody(lambda member: victim not in member._view.gone.lost)
        began = time.perf_counter()
        if way.end == "kill":
            os.kill(pid, signal.SIGKILL)
        else:
            process.stdin.write("\n")
            process.stdin.flush()
        everybody(lambda member: victim in member._view.gone.lost)
        found.append(time.perf_counter() - began)
        process.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--others", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with EtcdServer() as etcd:
        watchers = [
            psbarrier.join(
                etcd.endpoint,
                "detect",
                "watcher",
                index,
                run="r",
                replicas={"victim": 1, "watcher": given.others},
                address="127.0.0.1:1",
                policy=POLICY,
            )
            for index in range(given.others)
        ]
        results = {}
        for way in WAYS:
            rounds = given.rounds if way.host != "bare" or way.end != "kill" else max(3, given.rounds // 5)
            results[way.name] = measure(etcd.endpoint, way, watchers, rounds)
        for member in watchers:
            member.close()
    if given.json:
        print(json.dumps(results))
        return
    print(f"until all {given.others} others know, in seconds:")
    for name, times in results.items():
        print(f"  {name:45} median {statistics.median(times):.3f}, largest {max(times):.3f} ({len(times)} rounds)")


if __name__ == "__main__":
    main()
