"""What a login costs at the start of a job, and after a restart of etcd: with users and passwords, against without.

    python -m benchmarks.auth_start [--members 200] [--processes 4] [--rounds 1] [--json]

Each member has a store of its own, and so logs in for itself. The start is from the first connect() until all have passed
the gate; the barrier from the end of etcd's restart, which forgets every token, until all have met. Logins are counted by
etcd, whose bcrypt cost is its default.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks import command, machine
from benchmarks.group import Group
from benchmarks.result import Report, Result
from psbarrier.embedded import EtcdServer

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from users import PASSWORD, enable_plain_auth

START, RESTART = "start", "barrier after a restart"


def logins(endpoint: str) -> int:
    """How many etcd has counted since it started."""
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.findall(r'handled_total\{[^}]*grpc_method="Authenticate".*?\} ([\d.e+]+)', text)
    return sum(int(float(count)) for count in found)


def one_round(members: int, processes: int, *, auth: bool) -> dict[str, tuple[float, int]]:
    """Seconds and logins of the two."""
    share = members // processes
    with EtcdServer() as etcd:
        if auth:
            enable_plain_auth(etcd.endpoint, "/psbarrier/")
        user = ("app", PASSWORD) if auth else ()
        given = [(etcd.endpoint, "auth", n * share, share, share * processes, *user) for n in range(processes)]
        with Group("benchmarks.login_party", given) as group:
            started = group.together("start").span, logins(etcd.endpoint)
            etcd.restart()  # its counters begin anew
            began = time.monotonic()
            met = max(group.together("meet").ended) - began, logins(etcd.endpoint)
            group.together("end")
    return {START: started, RESTART: met}


def measure(options: argparse.Namespace) -> Report:
    """Without and with, in turn."""
    rounds = [
        (name, one_round(options.members, options.processes, auth=auth))
        for _ in range(options.rounds)
        for name, auth in (("without logins", False), ("with a login each", True))
    ]
    at = {"members": options.members}
    results = []
    for column, unit in enumerate(("s", "logins")):
        for phase in (START, RESTART):
            for name in dict.fromkeys(name for name, _ in rounds):
                samples = [found[phase][column] for other, found in rounds if other == name]
                results.append(Result(f"{phase}, {name}", at, unit, samples))
    title = f"What logins cost {options.members} members in {options.processes} processes"
    return Report("auth_start", title, results, machine.facts())


def main() -> None:
    """The command."""
    parser = command.parser(__doc__)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    command.run(parser.parse_args(), measure)


if __name__ == "__main__":
    main()
