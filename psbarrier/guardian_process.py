"""What runs in a guardian (see psbarrier/guardian.py): hold a task until the process that uses it ends, and tell how it did."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from typing import Any

from psbarrier.errors import PsBarrierError, StoreError
from psbarrier.exit_status import describe, shell_code
from psbarrier.flows.attaching import guarding
from psbarrier.flows.ending import departing
from psbarrier.flows.leading import leading
from psbarrier.guardian import IGNORED
from psbarrier.parent import Parent
from psbarrier.protocol.handover import Handover
from psbarrier.protocol.records import Departure
from psbarrier.protocol.standing import Standing
from psbarrier.session import Session
from psbarrier.store.access import Access
from psbarrier.store.etcd import EtcdStore

logger = logging.getLogger("psbarrier")

REPORTING = 2.0
"""Seconds to tell etcd how the process ended; else its lease runs out."""
_LOOK = 1.0
"""Seconds between two looks at whether there is still something to hold."""


def guard(given: dict[str, Any], pipe: int) -> None:
    """Hold what is handed over until the parent ends, or says so; then report how it ended, if it did not report itself."""
    me = Handover.unpack(given["handover"]).standing
    parent = Parent(given["parent"], pipe)
    with EtcdStore.of(Access.from_dict(given["access"])) as store:
        session = Session(store)
        now = session.clock.now
        until = now() + 2 * store.request_timeout
        joined = session.run(guarding(me, now, until))
        session.attach(me, until)
        session.start(leading(me, joined.view, now, session.clock.wall, session.certain))
        _say("ready")
        ended = _wait(session, parent)
        if ended and session.error is None:
            _report(session, me, parent)
        session.close(revoke=ended)


def _wait(session: Session, parent: Parent) -> bool:
    """Whether the parent has ended; False when it lets us go, or when there is nothing to hold any more."""
    while session.error is None:
        if (gone := parent.gone(_LOOK)) is not None:
            return gone
    return False


def _report(session: Session, me: Standing, parent: Parent) -> None:
    """Tell the job that the process has ended. What it told itself, as finished or crashed, stays as it was told."""
    status = parent.status()
    wall = session.clock.wall()
    if status is None:
        departure = Departure(me.incarnation, "left", f"its process {parent.pid} ended, nobody knows how", 1, wall)
    elif status == 0 or -status in IGNORED:
        departure = Departure(me.incarnation, "left", f"its process {parent.pid} {describe(status)}", 0, wall)
    else:
        code = shell_code(status)
        departure = Departure(me.incarnation, "crashed", f"its process {parent.pid} {describe(status)}", code, wall)
    try:
        if session.run(departing(me, departure, session.clock.now, session.clock.now() + REPORTING)):
            logger.warning("%s of job %r %s: %s", me.task, me.job, departure.kind, departure.reason)
    except StoreError as error:
        logger.warning("the end of %s of job %r could not be reported: %s", me.task, me.job, error)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the parent's end is noticed elsewhere
        os.write(1, f"{line}\n".encode())


def main() -> None:
    """The guardian's entry point."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    try:
        with open(0, "rb", buffering=0) as pipe:  # a buffer would hide from select() what it holds
            line = pipe.readline()
            if line:  # else the parent died before it said anything
                guard(json.loads(line), pipe.fileno())
    except PsBarrierError as error:
        _say(" ".join(str(error).split()))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
