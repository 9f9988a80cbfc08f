"""What a login costs at the start of a job, and after a restart of etcd: with users and passwords, against without.

    python benchmarks/auth_start.py [--members 200] [--processes 4] [--json]

Each member has a store of its own, and so logs in for itself. "start" is from the first connect() until all have passed
the gate; "barrier after restart" from the end of etcd's restart, which forgets every token, until all have met. Logins are
counted by etcd, whose bcrypt cost is its default; a failure is any error that a member met.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from users import PASSWORD, enable_plain_auth

from psbarrier.embedded import EtcdServer

PROCESS = """
import sys, threading, psbarrier, psbarrier.store.etcd
endpoint, first, count, size, user, password = sys.argv[1:]
first, count, size = int(first), int(count), int(size)
login = {"user": user, "password": password, "allow_plaintext_password": True} if user else {}
go, failures, line = threading.Event(), [], threading.Barrier(count + 1)

def member(index):
    try:
        store = psbarrier.store.etcd.EtcdStore(endpoint, **login)
        with store, psbarrier.join(store, "auth", "worker", index, replicas={"worker": size}, address="h:1",
                                   run="run", timeout=120) as me:
            me.cluster(120)
            line.wait()
            go.wait()
            me.barrier("b").wait(120)
            line.wait()
            end.wait()
    except Exception as error:
        failures.append(f"{type(error).__name__}: {error}")
        line.abort()

end = threading.Event()
threads = [threading.Thread(target=member, args=(index,)) for index in range(first, first + count)]
sys.stdin.readline()
for thread in threads:
    thread.start()
try:
    line.wait()
    print("started", flush=True)
    sys.stdin.readline()
    go.set()
    line.wait()
except threading.BrokenBarrierError:
    pass
print("met", len(failures), *failures[:1], flush=True)
sys.stdin.readline()
end.set()
"""


def logins(endpoint: str) -> int:
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return sum(
        int(float(n)) for n in re.findall(r'handled_total\{[^}]*grpc_method="Authenticate".*?\} ([\d.e+]+)', text)
    )


def measure(members: int, processes: int, *, auth: bool) -> dict[str, float]:
    share = members // processes
    with EtcdServer() as etcd:
        if auth:
            enable_plain_auth(etcd.endpoint, "/psbarrier/")
        user = ("app", PASSWORD) if auth else ("", "")
        with tempfile.TemporaryFile("w+") as errors:
            running = [
                subprocess.Popen(
                    [sys.executable, "-c", PROCESS, etcd.endpoint, str(n * share), str(share), str(members), *user],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
                for n in range(processes)
            ]
            time.sleep(3.0)  # all have imported what they need
            began = time.monotonic()
            said = _tell(running)
            start = time.monotonic() - began
            before = logins(etcd.endpoint)
            etcd.restart()  # its counters begin anew
            began = time.monotonic()
            said = _tell(running) if all(line.startswith("started") for line in said) else said
            met = time.monotonic() - began
            after = logins(etcd.endpoint)
            failures = sum(int(line.split()[1]) for line in said)
            for line in said:
                if failures:
                    print(line[4:], end="")
            for process in running:
                process.communicate()
    return {
        "start, s": round(start, 2),
        "logins": before,
        "barrier after restart, s": round(met, 2),
        "logins after restart": after,
        "failures": failures,
    }


def _tell(running: list[subprocess.Popen[str]]) -> list[str]:
    """Let all go on, and wait for what each says then."""
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.stdout.readline() for process in running if process.stdout is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {
        name: measure(options.members, options.processes, auth=auth)
        for name, auth in (("without", False), ("with", True))
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.members} members in {options.processes} processes")
    for row in result["with"]:
        print(f"{row:>26}: {result['without'][row]:>8} without, {result['with'][row]:>8} with a login each")


if __name__ == "__main__":
    main()
