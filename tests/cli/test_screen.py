"""Log lines, and the display on a terminal."""

from __future__ import annotations

import io
import logging
import os
import pty

from helpers import eventually

from psbarrier.cli.screen import Screen
from psbarrier.flows.effects import Progress

WAITING = Progress("worker/0 at the gate", 1, 3, {"ps/0": "never registered", "ps/1": "lost [why]"}, 5.0, 55.0)
logger = logging.getLogger("psbarrier")


def test_a_record_is_one_plain_line() -> None:
    """Whatever line ends stand in it."""
    out = io.StringIO()
    with Screen(out):
        logger.warning("etcd said:\n  no")
    assert out.getvalue() == "psbarrier: etcd said: no\n"


def test_the_logger_is_as_before_afterwards() -> None:
    """A program that uses our command line as a library keeps its own logging."""
    before = logger.level, logger.propagate, list(logger.handlers)
    with Screen(io.StringIO()):
        assert logger.level == logging.INFO
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_without_a_terminal_a_wait_is_a_line() -> None:
    """Who is missing and why, and how long it will go on."""
    out = io.StringIO()
    with Screen(out) as screen:
        screen.tell(WAITING)
    assert "1 of 3 after 5 s, waiting for at most 55 s more; missing: ps/0 (never registered)" in out.getvalue()


def test_on_a_terminal_a_wait_is_drawn_and_taken_away() -> None:
    """A bar, who is missing, the time left; log lines go above it."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read(text: str) -> bool:
        def seen() -> bool:
            shown.extend(os.read(ours, 65536))
            return text.encode() in shown

        return eventually(seen)

    with open(theirs, "w", encoding="utf-8", closefd=True) as terminal, Screen(terminal) as screen:
        screen.tell(WAITING)
        assert read("ps/1 (lost [why])")
        assert b"1/3" in shown
        assert b"s left" in shown
        logger.warning("meanwhile")
        assert read("psbarrier: meanwhile")
        screen.clear()
        logger.warning("afterwards")
        assert read("psbarrier: afterwards")
    os.close(ours)
