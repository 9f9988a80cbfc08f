"""How soon a group of torchrun's nodes has met: psbarrier's rendezvous against torch's own c10d, in one run.

    python benchmarks/torch_rendezvous.py [--nodes 8 32 64] [--rounds 3] [--json]

Each node is a process that has imported everything and then waits for a word; the clock runs from that word until the last
one has returned from its first `next_rendezvous()`, which is followed by a value from each other node's store to prove it.
The handlers are made by torch's own registry, with all options as torchrun has them but a last call, which nobody waits for
when all nodes come. c10d's store is served by node 0, psbarrier's etcd by one process beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import uuid

from attrs import asdict, frozen

from psbarrier.embedded import EtcdServer, free_ports

NODE = """
import sys
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler
import psbarrier.torch_rendezvous

backend, endpoint, job, count, index = sys.argv[1:]
count, more = int(count), {"is_host": index == "0"} if backend == "c10d" else {}
print("ready", flush=True)
sys.stdin.readline()
parameters = RendezvousParameters(backend, endpoint, job, count, count, "127.0.0.1", **more)
handler = get_rendezvous_handler(parameters)
found = handler.next_rendezvous()
print("met", found.rank, found.world_size, flush=True)
sys.stdin.readline()
found.store.set(f"rank{found.rank}", "here")
assert found.store.get(f"rank{(found.rank + 1) % count}") == b"here"
print("proven", flush=True)
sys.stdin.readline()
handler.shutdown()
"""
BACKENDS = ("psbarrier", "c10d")


@frozen
class Result:
    """Seconds of each round."""

    backend: str
    nodes: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def start(backend: str, endpoint: str, nodes: int) -> float:
    """Seconds until so many nodes have met."""
    arguments = [sys.executable, "-W", "ignore", "-c", NODE, backend, endpoint, f"j{uuid.uuid4().hex[:8]}", str(nodes)]
    processes = [
        subprocess.Popen([*arguments, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for index in range(nodes)
    ]
    try:
        say_and_hear(processes, "ready", say=False)
        began = time.perf_counter()
        met = say_and_hear(processes, "met")
        took = time.perf_counter() - began
        ranks = sorted(int(line.split()[1]) for line in met)
        assert ranks == list(range(nodes)), ranks
        say_and_hear(processes, "proven")
        say_and_hear(processes, "", hear=False)
        return took
    finally:
        for process in processes:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def say_and_hear(
    processes: list[subprocess.Popen[str]], word: str, *, say: bool = True, hear: bool = True
) -> list[str]:
    """Let all go on, and read a line from each, which begins with `word`."""
    for process in processes if say else ():
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [process.stdout.readline() for process in processes] if hear else []
    assert all(line.startswith(word) for line in lines), lines
    return lines


def measure(nodes: int, rounds: int) -> list[Result]:
    """The two in turn, so that whatever else the machine does meets both."""
    seconds: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    with EtcdServer() as etcd:
        for _ in range(rounds):
            seconds["psbarrier"].append(start("psbarrier", etcd.endpoint, nodes))
            seconds["c10d"].append(start("c10d", f"127.0.0.1:{free_ports(1)[0]}", nodes))
    return [Result(backend, nodes, tuple(seconds[backend])) for backend in BACKENDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = [result for nodes in options.nodes for result in measure(nodes, options.rounds)]
    if options.json:
        print(json.dumps([asdict(result) for result in results]))
        return
    print(f"{'nodes':>5}  {'psbarrier':>20}  {'c10d':>20}  {'times':>5}")
    for ours, theirs in zip(results[::2], results[1::2], strict=True):
        spans = [f"{r.median:.2f} s ({min(r.seconds):.2f}-{max(r.seconds):.2f})" for r in (ours, theirs)]
        print(f"{ours.nodes:>5}  {spans[0]:>20}  {spans[1]:>20}  {theirs.median / ours.median:>5.1f}")


if __name__ == "__main__":
    main()
