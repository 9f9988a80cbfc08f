"""What is given to a sitter ends with the process that gave it, however that process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers import alive, eventually

from psbarrier.sitter import Sitter

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
POLITE = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(7)); print('ready', flush=True); signal.pause()"
PARENT = """
import os, signal, subprocess, sys
from psbarrier.sitter import Sitter
sitter = Sitter()
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
sitter.guard(child.pid)
sitter.folder(sys.argv[1])
holder = os.fork() if sys.argv[2] == "forked" else 0
if sys.argv[2] == "forked" and holder == 0:
    signal.pause()
print(child.pid, sitter.pid, holder, flush=True)
signal.pause()
"""


@pytest.fixture
def started() -> Iterator[ExitStack]:
    """Ends and reaps whatever a test started, also when the test fails."""
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, code: str, *args: str) -> subprocess.Popen[str]:
    """Run `code` in a session of its own."""
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True, start_new_session=True)
    )
    stack.callback(process.kill)
    return process


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the first line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_guarded_group_is_asked_to_end(started: ExitStack) -> None:
    """SIGTERM comes first, so that the group can end in its own way."""
    child = start(started, POLITE)
    assert first_line(child) == "ready"
    sitter = Sitter()
    sitter.guard(child.pid, grace=60)
    sitter.close()
    assert child.wait(30) == 7


def test_a_stopped_group_can_still_end_in_its_own_way(started: ExitStack) -> None:
    """A frozen process is woken, so that it hears the SIGTERM before its grace is over."""
    child = start(started, POLITE)
    assert first_line(child) == "ready"
    os.killpg(child.pid, signal.SIGSTOP)
    sitter = Sitter()
    sitter.guard(child.pid, grace=60)
    sitter.close()
    assert child.wait(30) == 7


@pytest.mark.parametrize("grace", [0.0, 0.1])
def test_a_group_that_does_not_listen_is_killed(started: ExitStack, grace: float) -> None:
    """After its grace SIGKILL ends what ignores SIGTERM."""
    child = start(started, STUBBORN)
    assert first_line(child) == "ready"
    sitter = Sitter()
    sitter.guard(child.pid, grace=grace)
    sitter.close()
    assert child.wait(30) == -signal.SIGKILL


def test_a_forgotten_group_is_left_alone(started: ExitStack) -> None:
    """Its number may belong to somebody else by now."""
    child = start(started, STUBBORN)
    assert first_line(child) == "ready"
    sitter = Sitter()
    sitter.guard(child.pid, grace=0)
    sitter.forget(child.pid)
    sitter.close()
    assert child.poll() is None


def test_folders_go_after_the_groups(started: ExitStack, tmp_path: Path) -> None:
    """A group that writes until its end cannot make its folder come back; a folder may be made after it was named."""
    folder = tmp_path / "böse name\nwith a newline"
    sitter = Sitter()
    sitter.folder(folder)
    sitter.folder(tmp_path / "never made")
    folder.mkdir()
    code = "import pathlib, sys\nprint('ready', flush=True)\nwhile True: pathlib.Path(sys.argv[1]).write_text('more')"
    child = start(started, code, str(folder / "file"))
    assert first_line(child) == "ready"
    sitter.guard(child.pid)
    sitter.close()
    assert not folder.exists()
    assert child.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize("how", ["alone", "forked"])
def test_sigkill_leaves_nothing(started: ExitStack, tmp_path: Path, how: str) -> None:
    """The parent's end is noticed even while a forked child of it holds the pipe open."""
    folder = tmp_path / "folder"
    folder.mkdir()
    parent = start(started, PARENT, str(folder), how)
    child, sitter, holder = (int(word) for word in first_line(parent).split())
    assert alive(child)
    parent.kill()
    assert eventually(lambda: not alive(child) and not alive(sitter) and not folder.exists())
    if holder:
        os.kill(holder, signal.SIGKILL)


def test_signals_for_everybody_do_not_end_the_sitter(started: ExitStack) -> None:
    """Ctrl-C, a hang-up or a SIGTERM to all processes ends the parent, and the sitter has yet to clean up."""
    child = start(started, STUBBORN)
    assert first_line(child) == "ready"
    sitter = Sitter()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(sitter.pid, number)
    sitter.guard(child.pid, grace=0)
    sitter.close()
    assert child.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("pgid", [-1, 0, 1])
def test_nobody_elses_groups_are_guarded(pgid: int) -> None:
    """0 is the caller's own group, and 1 and -1 mean the whole machine."""
    sitter = Sitter()
    with pytest.raises(ValueError, match="not a process group"):
        sitter.guard(pgid)
    sitter.close()


def test_a_closed_sitter_says_so() -> None:
    """Nothing is promised that nobody is there to keep; closing and forgetting are always fine."""
    sitter = Sitter()
    sitter.close()
    sitter.close()
    sitter.forget(12345)
    with pytest.raises(BrokenPipeError, match="closed"):
        sitter.guard(12345)


def test_a_sitter_that_hangs_keeps_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And does its work when it goes on."""
    sitter = Sitter()
    sitter.folder(tmp_path / "folder")
    (tmp_path / "folder").mkdir()
    os.kill(sitter.pid, signal.SIGSTOP)
    try:
        with monkeypatch.context() as hurry:
            hurry.setattr("psbarrier.sitter._CLOSING", 0.1)
            sitter.close()
        assert (tmp_path / "folder").exists()
    finally:
        os.kill(sitter.pid, signal.SIGCONT)
    assert eventually(lambda: not (tmp_path / "folder").exists())
    sitter.close()
