"""A party of psbarrier's barrier that counts its own processor time: by thread, and in the calling thread by step."""

from __future__ import annotations

import sys
import time

import psbarrier
from benchmarks import party
from benchmarks.bare import BareClient
from benchmarks.steps import CALLER, Place, Profile, parts
from psbarrier.drive import Drive
from psbarrier.protocol.party import Party
from psbarrier.session import Session
from psbarrier.store import etcd, wire
from psbarrier.store.clock import SystemClock

WARM_UP = 20  # rounds

STEPS: dict[str, Place] = {
    "the transaction, as psbarrier's values": (Party, "arrive"),
    "the transaction, as bytes": (etcd, "txn_bytes"),
    "gRPC's call": (type(BareClient("127.0.0.1:1").txn), "__call__"),
    "the reply, as psbarrier's values": (wire, "txn_reply"),
    "the reply, into the view": (Session, "perform"),
    "to fall asleep, and to wake up": (SystemClock, "wait"),
    "to look at the view": (Drive, "_wait"),
}

THREADS = {
    CALLER: "thread: of the call",
    "MainThread": "thread: the main one, which has another do it",
    "psbarrier-watch": "thread: reads the event",
    "": "threads: of gRPC's core",
}

PARTS = parts(STEPS, THREADS)


def main(endpoint: str, size: int, index: int, rounds: int, pause: float) -> None:
    """Meet so often, after so many seconds of doing nothing each time, and say what that took."""
    profile = Profile(STEPS, THREADS)
    with psbarrier.join(
        endpoint, "profile", "worker", index, replicas={"worker": size}, address="127.0.0.1:1", run="run", timeout=120
    ) as me:
        me.cluster(timeout=120)
        barrier = me.barrier("meeting")
        party.say("ready")
        party.hear()
        for number in range(WARM_UP + rounds):
            if number == WARM_UP:
                profile.begin()
            time.sleep(pause)
            barrier.wait(timeout=60)
        party.say("used", *(seconds / rounds for seconds in profile.spent()))
        party.hear()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
