"""The output of many commands on one screen."""

from __future__ import annotations

import io
import os
from typing import cast

import pytest
from helpers import eventually

from psbarrier import Task
from psbarrier.cli.funnel import LONGEST, Funnel
from psbarrier.cli.screen import Screen


class Output(io.BytesIO):
    """Where lines arrive; refuses everything once it is broken."""

    broken = False

    def write(self, data: object, /) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().write(cast(bytes, data))


def feed(*writes: tuple[str, bytes]) -> bytes:
    """What is shown when these tasks write these bytes, one after the other, and end."""
    out, opened = Output(), {}
    with Funnel(Screen(), lambda: None, out) as funnel:
        for name, data in writes:
            if name not in opened:
                opened[name] = funnel.open(Task.parse(name))
            os.write(opened[name][1], data)
        for descriptors in opened.values():
            for descriptor in descriptors:
                os.close(descriptor)
    return out.getvalue()


def test_each_line_begins_with_its_task() -> None:
    """Empty lines too."""
    assert feed(("worker/3", b"a\n\nb\n")) == b"[worker/3] a\n[worker/3] \n[worker/3] b\n"


def test_a_line_is_never_cut_by_another() -> None:
    """What two tasks write piece by piece stays whole."""
    shown = feed(("ps/0", b"one, "), ("ps/1", b"three, "), ("ps/0", b"two\n"), ("ps/1", b"four\n"))
    assert sorted(shown.splitlines()) == [b"[ps/0] one, two", b"[ps/1] three, four"]


def test_a_last_line_without_an_end_is_shown() -> None:
    """It may be the reason for a crash."""
    assert feed(("ps/0", b"a\nTraceback")) == b"[ps/0] a\n[ps/0] Traceback\n"


def test_what_is_not_text_passes_through_unchanged() -> None:
    """No decoding that could fail or replace."""
    noise = bytes(set(range(256)) - {10})
    assert feed(("ps/0", noise + b"\n")) == b"[ps/0] " + noise + b"\n"


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    """It is shown in pieces."""
    out = Output()
    with Funnel(Screen(), lambda: None, out) as funnel:
        descriptors = funnel.open(Task("ps", 0))
        for _ in range(LONGEST // 32768 + 2):
            os.write(descriptors[1], b"x" * 32768)
        assert eventually(lambda: out.getvalue())
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_helper_that_keeps_the_pipe_open_delays_nobody() -> None:
    """Forked loader workers outlive their command."""
    out = Output()
    with Funnel(Screen(), lambda: None, out) as funnel:
        descriptors = funnel.open(Task("ps", 0))
        os.write(descriptors[1], b"done")
    assert out.getvalue() == b"[ps/0] done\n"
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("count", [1, 3])
def test_nobody_reading_any_more_is_told_once(count: int) -> None:
    """And the commands do not block on a full pipe."""
    out, told = Output(), list[int]()
    out.broken = True
    with Funnel(Screen(), lambda: told.append(1), out) as funnel:
        descriptors = funnel.open(Task("ps", 0))
        for _ in range(count):
            os.write(descriptors[1], b"x" * 60000 + b"\n")
        for descriptor in descriptors:
            os.close(descriptor)
    assert told == [1]
