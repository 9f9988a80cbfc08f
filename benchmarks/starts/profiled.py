"""A process of a group that counts its own processor time while it starts: by thread, and in the calling thread by step."""

from __future__ import annotations

import contextlib
import sys
import threading

import psbarrier
import psbarrier.store.etcd
from benchmarks import party
from benchmarks.bare import BareClient
from benchmarks.steps import CALLER, REST, Place, Steps, by_thread
from psbarrier.drive import Drive
from psbarrier.flows import gate
from psbarrier.session import Session
from psbarrier.store import etcd, wire
from psbarrier.store.calls import Calls
from psbarrier.store.channels import Channels
from psbarrier.store.clock import SystemClock
from psbarrier.store.watching import Watching

STEPS: dict[str, Place] = {
    "gRPC's connection": (Channels, "_connect"),
    "gRPC's calls: lease, registration, read": (type(BareClient("127.0.0.1:1").txn), "__call__"),
    "all else of a request": (Calls, "send"),
    "the requests, as bytes": (etcd, "txn_bytes"),
    "the replies, as psbarrier's values": (wire, "txn_reply"),
    "the replies, into the view": (Session, "perform"),
    "to open the watch": (Watching, "open"),
    "to begin a thread": (threading.Thread, "start"),
    "to fall asleep, and to wake up": (SystemClock, "wait"),
    "to look at the view": (Drive, "_wait"),
    "the spec, from its bytes": (gate, "_checked"),
}

THREADS = {
    CALLER: "thread: of the calls",
    "MainThread": "thread: the main one, which has another do them",
    "psbarrier-watch": "thread: reads the events",
    "psbarrier-watch-writer": "thread: writes on the stream of events",
    "psbarrier-duty": "thread: leads, which one process of all does",
    "": "threads: of gRPC's core",
}
OTHERS = "threads: all others, one of gRPC for each connection among them"

PARTS = (*STEPS, REST, *THREADS.values(), OTHERS)


def main(endpoint: str, job: str, size: int, index: int) -> None:
    """Start once, and say what that took."""
    steps = Steps(STEPS)
    with contextlib.ExitStack() as stack:

        def start() -> None:
            me = psbarrier.join(
                endpoint,
                job,
                "worker",
                index,
                replicas={"worker": size},
                address=f"127.0.0.1:{10000 + index}",
                run="run",
                timeout=120,
            )
            stack.enter_context(me)
            assert len(me.cluster(timeout=120).addresses("worker")) == size

        before = by_thread(THREADS, OTHERS)
        party.perform({"start": start})
        after = by_thread(THREADS, OTHERS)
        used = {**steps.seconds, **{name: after[name] - before.get(name, 0.0) for name in after}}
        party.say("used", *(used.get(name, 0.0) for name in PARTS))
        party.hear()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
