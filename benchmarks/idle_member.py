"""What an idle member costs: import time, memory, threads, open files, and messages that it sends to etcd per minute.

    python benchmarks/idle_member.py [--seconds 60] [--json]

Everything is compared with a process that only imports grpc, in the same run. The messages are counted by etcd itself
(its metric grpc_server_msg_received_total); of the idle member of a job of one, which also leads.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from psbarrier.embedded import EtcdServer

BASE = "import grpc, sys; print('ready', flush=True); sys.stdin.read()"
MEMBER = """
import sys, psbarrier
with psbarrier.join(sys.argv[1], "idle", "worker", 0, replicas={"worker": 1}, address="127.0.0.1:1") as me:
    me.cluster(timeout=30)
    print("ready", flush=True)
    sys.stdin.read()
"""
IMPORT = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def footprint(process: subprocess.Popen[str]) -> dict[str, float]:
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+)", status)
    threads = re.search(r"Threads:\s+(\d+)", status)
    assert resident is not None and threads is not None
    files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    return {"memory MB": int(resident[1]) / 1024, "threads (all)": int(threads[1]), "open files": files}


def messages(endpoint: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    rows = re.findall(r'grpc_server_msg_received_total\{grpc_method="(\w+)".*?\} ([\d.e+]+)', text)
    return {method: float(count) for method, count in rows if float(count)}


def import_seconds(module: str) -> float:
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT.format(module)], capture_output=True, text=True) for _ in range(5)
    ]
    return min(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the member is watched")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with EtcdServer() as etcd:
        base, member = start(BASE), start(MEMBER, etcd.endpoint)
        before = messages(etcd.endpoint)
        time.sleep(options.seconds)
        after = messages(etcd.endpoint)
        plain, ours = footprint(base), footprint(member)
        for process in (base, member):
            process.communicate()
    per_minute = {
        method: round((count - before.get(method, 0)) * 60 / options.seconds, 1)
        for method, count in after.items()
        if count != before.get(method, 0)
    }
    result = {
        "import psbarrier, s": round(import_seconds("psbarrier"), 3),
        "import grpc, s": round(import_seconds("grpc"), 3),
        "only grpc": {name: round(value, 1) for name, value in plain.items()},
        "idle member": {name: round(value, 1) for name, value in ours.items()},
        "more than only grpc": {name: round(ours[name] - plain[name], 1) for name in ours},
        "messages per minute": per_minute,
    }
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>22}: {value}")


if __name__ == "__main__":
    main()
