"""The command line as a user starts it: in processes of its own, or in this one where no child is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from click.testing import CliRunner, Result
from helpers import eventually

from psbarrier.cli.main import cli
from psbarrier.embedded import EtcdServer
from psbarrier.store.base import KV, Range, prefix_end
from psbarrier.store.etcd import EtcdStore

MAIN = (sys.executable, "-c", "from psbarrier.cli.main import main; main()")
PATIENCE = 60.0
"""Seconds after which a test that waits in vain fails."""

BLOCK = ("sh", "-c", "echo up; exec sleep 1000")
"""A command that runs until it is ended, and dies of SIGTERM."""
STUBBORN = ("sh", "-c", "trap '' INT TERM; echo up; while :; do sleep 1; done")
"""One that only SIGKILL ends."""


def unique(prefix: str = "job") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def clean(etcd: EtcdServer | None) -> dict[str, str]:
    """Our environment without psbarrier's variables but which etcd to start, and with the way to this etcd."""
    kept = {n: value for n, value in os.environ.items() if not n.startswith("PSBARRIER_") or n == "PSBARRIER_ETCD"}
    return kept if etcd is None else {**kept, "PSBARRIER_ENDPOINTS": etcd.endpoint}


def invoke(etcd: EtcdServer | None, *args: str) -> Result:
    """Run a command that needs no child, here."""
    absent: dict[str, str | None] = {name: None for name in os.environ if name.startswith("PSBARRIER_")}
    given = {} if etcd is None else {"PSBARRIER_ENDPOINTS": etcd.endpoint}
    return CliRunner().invoke(cli, args, env={**absent, **given})


class Command:
    """A `psbarrier` that runs, and what it and its children have written."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process, self._path = process, path

    @property
    def out(self) -> str:
        return self._path.with_suffix(".out").read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._path.with_suffix(".err").read_text(errors="replace")

    @property
    def text(self) -> str:
        """Both, for the message of a failed assert."""
        return f"{self.out}\n--- stderr:\n{self.err}"

    def says(self, text: str, count: int = 1) -> bool:
        """Whether it has written `text` to standard output so often, once it has."""
        return eventually(lambda: self.out.count(text) >= count or self.process.poll() is not None, PATIENCE) and (
            self.out.count(text) >= count
        )

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def code(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE)


@contextmanager
def psbarrier(
    folder: Path, etcd: EtcdServer | None, *args: str, out: BinaryIO | None = None, **variables: str
) -> Iterator[Command]:
    """Start `psbarrier` with these arguments; it is ended with the block."""
    path = folder / uuid.uuid4().hex
    with open(path.with_suffix(".out"), "wb") as file, open(path.with_suffix(".err"), "wb") as err:
        process = subprocess.Popen(
            [*MAIN, *args], stdin=subprocess.DEVNULL, stdout=out or file, stderr=err, env={**clean(etcd), **variables}
        )
    try:
        yield Command(process, path)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def finished(folder: Path, etcd: EtcdServer | None, *args: str, **variables: str) -> Command:
    """Run `psbarrier` to its end."""
    with psbarrier(folder, etcd, *args, out=None, **variables) as command:
        command.code()
        return command


def run_args(job: str, *options: str, role: str = "worker", replicas: str = "worker=1") -> tuple[str, ...]:
    """`psbarrier run` up to the command."""
    return "run", "--job", job, "--role", role, "--replicas", replicas, *options, "--"


def keys(etcd: EtcdServer, job: str) -> tuple[KV, ...]:
    """Everything that etcd holds of a job."""
    prefix = f"/psbarrier/{job}/"
    with EtcdStore(etcd.endpoint) as store:
        return store.read(Range(prefix, prefix_end(prefix)), until=store.clock.now() + 10).many(0)
