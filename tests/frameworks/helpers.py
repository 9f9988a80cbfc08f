"""Jobs of a framework's programs, as a user starts them. Frameworks take long to import, so these wait for longer."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from cli.helpers import Command, psbarrier
from helpers import eventually

from psbarrier.embedded import EtcdServer

PATIENCE = 200.0
"""Seconds after which a test that waits in vain fails."""

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def program(code: str) -> tuple[str, ...]:
    """The command that runs `code`."""
    return "--", sys.executable, "-c", code


def script(name: str) -> str:
    """The path of a program that came with the packages of this Python."""
    return str(Path(sys.executable).parent / name)


def succeeded(folder: Path, etcd: EtcdServer | None, *args: str, **variables: str) -> Command:
    """Run `psbarrier` to its end, which must be a success."""
    with psbarrier(folder, etcd, *args, out=None, **variables) as command:
        code = command.process.wait(PATIENCE)
        assert code == 0, command.text
        return command


def says(command: Command, text: str) -> bool:
    """Whether it writes `text` to standard output, sooner or later."""
    eventually(lambda: text in command.out or command.process.poll() is not None, PATIENCE)
    return text in command.out


def told(command: Command, pattern: str) -> list[tuple[str, ...]]:
    """What the tasks have printed that matches: each task and the groups of the pattern, sorted."""
    return sorted(re.findall(rf"^\[([^\]]+)\] {pattern}$", command.out, re.MULTILINE))
