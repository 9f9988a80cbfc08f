"""A process of a group that counts its own processor time while it starts: by thread, and in the calling thread by step."""

from __future__ import annotations

import contextlib
import sys
import threading

from benchmarks import party
from benchmarks.bare import BareClient
from benchmarks.starts.ours import joined
from benchmarks.steps import CALLER, Place, Profile, parts
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

PARTS = parts(STEPS, THREADS)


def main(endpoint: str, job: str, size: int, index: int) -> None:
    """Start once, and say what that took."""
    profile = Profile(STEPS, THREADS)
    with contextlib.ExitStack() as stack:
        profile.begin()
        party.perform({"start": lambda: stack.enter_context(joined(endpoint, job, size, index))})
        party.say("used", *profile.spent())
        party.hear()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
