"""Process 1: what runs as its child, and what it does itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import AbstractContextManager

import pytest
from helpers import python

# A subreaper gets the orphans below it, as process 1 does.
SUBREAPER = """
import ctypes, os, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)
before = os.getpid()
from psbarrier.cli.init import split
split()
assert os.getppid() == before
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")


def run(code: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return python(SUBREAPER + code)


@pytest.mark.parametrize(("code", "ended"), [("sys.exit(5)", 5), ("os.kill(os.getpid(), 9)", 137), ("", 0)])
def test_it_ends_as_its_child_does(code: str, ended: int) -> None:
    """With the child's exit code, or 128 + N."""
    with run(code) as process:
        assert process.wait(30) == ended


def test_it_reaps_orphans_and_leaves_its_childs_children_alone() -> None:
    """The orphan's status is nobody's; the child's own child has its own."""
    code = """
orphan = subprocess.run(["sh", "-c", "sh -c 'exit 3' & echo $!"], capture_output=True, text=True).stdout
gone = subprocess.run(["sh", "-c", f"while [ -e /proc/{orphan.strip()} ]; do sleep 0.01; done"], timeout=20)
print(os.path.exists(f"/proc/{orphan.strip()}"), subprocess.run(["sh", "-c", "exit 4"]).returncode)
"""
    with run(code) as process:
        assert process.communicate(timeout=30)[0] == "False 4\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_it_passes_signals_on(number: int) -> None:
    """The kernel would drop them, for process 1 has no default."""
    code = f"""
signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])
print("up", flush=True)
print(signal.sigwait([{int(number)}]))
"""
    with run(code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{int(number)}\n"
