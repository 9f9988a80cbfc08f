"""psbarrier run as the guardian of its command: what each can survive of the other, and what the others hear of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import alive, eventually

import psbarrier as library
from cli.helpers import PATIENCE, Command, keys, psbarrier, run_args, unique
from psbarrier import Member, Policy, Task
from psbarrier.embedded import EtcdServer
from psbarrier.protocol.records import Registration

pytestmark = pytest.mark.e2e

LONG = "600"
"""Seconds of a TTL: what is known before has not been found out by it."""
PROGRAM = """
import os, signal, sys, time
import psbarrier
me = psbarrier.join()
me.cluster()
print(os.getpid(), os.environ["PSBARRIER_CLUSTER_FILE"], flush=True)
"""


class Pair:
    """A job of two workers: worker/0 is a command of `psbarrier run`, worker/1 is here."""

    def __init__(self, etcd: EtcdServer, folder: Path) -> None:
        self.etcd, self.folder, self.job = etcd, folder, unique()
        self.here = self.join()

    def join(self) -> Member:
        """Join as worker/1."""
        return library.join(
            self.etcd.endpoint, self.job, "worker", 1, run="r", address="h:1", replicas="worker=2", policy=Policy()
        )

    def run(self, code: str, *options: str) -> Any:
        """`psbarrier run` with a Python program."""
        given = ("--run", "r", "--index", "0", *options)
        command = (sys.executable, "-c", PROGRAM + code)
        return psbarrier(self.folder, self.etcd, *run_args(self.job, *given, replicas="worker=2"), *command)

    def why_gone(self) -> str:
        """What everybody is told of worker/0; empty while it is there."""
        loss = self.here._view.gone.lost.get(Task("worker", 0))
        return self.here.job_state.reason or (loss.why if loss else "")

    def holder(self) -> int:
        """The process id in the registration of worker/0; 0 when there is none."""
        for kv in keys(self.etcd, self.job):
            if kv.key.endswith("/members/worker/0"):
                known = Registration.unpack(kv.key, kv.value)
                return known.attached or known.pid
        return 0


@pytest.fixture
def pair(etcd: EtcdServer, tmp_path: Path) -> Iterator[Pair]:
    """A job that waits for its other half."""
    made = Pair(etcd, tmp_path)
    yield made
    made.here.close()


def started(command: Command) -> tuple[int, Path]:
    """The command's process id and its cluster file, once it has attached."""
    assert eventually(lambda: command.out.endswith("\n") or command.process.poll() is not None, PATIENCE), command.text
    pid, file = command.out.splitlines()[0].split()
    return int(pid), Path(file)


def test_a_killed_command_is_missed_at_once_whatever_it_leaves_behind(pair: Pair) -> None:
    """A helper that ignores SIGTERM is ended after the others have been told."""
    helper = "import subprocess; subprocess.Popen(['sh', '-c', 'trap \"\" TERM; while :; do sleep 1; done']); "
    with pair.run(helper + "signal.pause()", "--ttl", LONG) as command:
        pid, _ = started(command)
        os.kill(pid, signal.SIGKILL)
        assert eventually(pair.why_gone)
        assert command.process.poll() is None  # it still ends what was left
        assert command.code() == 137
    assert "was killed by SIGKILL" in pair.why_gone()


def test_a_command_that_keeps_the_gil_keeps_its_task(pair: Pair) -> None:
    """For more than two TTLs, none of its own threads runs."""
    with pair.run("import ctypes; ctypes.PyDLL(None).sleep(6); print('done', flush=True)", "--ttl", "2") as command:
        started(command)
        assert command.says("done")
        assert command.code() == 0
    assert pair.here.cluster(PATIENCE).epoch == 1
    assert Task("worker", 0) in pair.here._view.gone.finished or eventually(
        lambda: Task("worker", 0) in pair.here._view.gone.finished
    )


def test_a_command_that_attached_outlives_its_guardian(pair: Pair) -> None:
    """It keeps the lease, for longer than its TTL, and its cluster file, which goes when it ends."""
    waits = "\nbarrier = me.barrier('b')\nwhile True:\n    barrier.wait(60)\n"
    with pair.run(waits, "--ttl", "2") as command:
        pid, file = started(command)
        barrier = pair.here.barrier("b")
        barrier.wait(PATIENCE)
        command.process.kill()
        command.process.wait()
        until = pair.here._now() + 5.0
        while pair.here._now() < until:
            barrier.wait(PATIENCE)
        assert alive(pid)
        assert file.exists()
        assert pair.holder() == pid
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not file.parent.exists())
        assert eventually(pair.why_gone)
    assert "is dead: this process goes on" in command.err


def test_a_command_that_did_not_attach_dies_with_its_guardian(pair: Pair) -> None:
    """Nobody would keep the lease, and nobody knows what it does."""
    argument = ("sh", "-c", "echo $$ -; exec sleep 1000")
    given = run_args(pair.job, "--run", "r", "--index", "0", "--ttl", "2", replicas="worker=2")
    with psbarrier(pair.folder, pair.etcd, *given, *argument) as command:
        pid, _ = started(command)
        command.process.kill()
        command.process.wait()
        assert eventually(lambda: not alive(pid))
    assert eventually(pair.why_gone)


def test_an_orphan_takes_over_leading(pair: Pair) -> None:
    """The leadership hangs on the lease that it keeps, so nobody else could."""
    pair.here.close()
    with pair.run("me.wait_job()", "--ttl", "2") as command:
        assert eventually(lambda: pair.holder() != 0)
        pair.here = pair.join()
        pid, _ = started(command)
        assert pair.here.cluster(PATIENCE).epoch == 1
        command.process.kill()
        pair.here.close()
        pair.here = pair.join()
        assert pair.here.cluster(PATIENCE).epoch == 2
        pair.here.fail("enough")
        assert eventually(lambda: not alive(pid))


CHECKPOINTS = """
with me:
    while not me.stopping.wait(0.05):
        print("trains", flush=True)
    print("writes its last checkpoint", flush=True)
print("left", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_listens_is_asked_and_not_signalled(pair: Pair, number: int) -> None:
    """It writes its last checkpoint and leaves the block, which is not the end of its task."""
    with pair.run(CHECKPOINTS, "--ttl", LONG) as command:
        assert command.says("trains")
        command.send(number)
        assert command.code() == 128 + number
        assert command.out.endswith("writes its last checkpoint\nleft\n")
    assert eventually(pair.why_gone)
    assert pair.why_gone().startswith("left")
    assert pair.here.job_state.phase == "running"


def test_a_command_that_listens_has_its_grace_and_no_more(pair: Pair) -> None:
    """Then it is killed, as any other."""
    code = "stopping = me.stopping\nprint('listens', flush=True)\nstopping.wait()\nprint('asked', flush=True)\nsignal.pause()"
    with pair.run(code, "--grace", "3") as command:  # in which a starved command must come to its print
        assert command.says("listens")
        command.send(signal.SIGTERM)
        assert command.code() == 143
        assert "asked" in command.out
    assert eventually(pair.why_gone)
    assert pair.why_gone().startswith("left")


def test_a_command_that_does_not_listen_gets_the_signal(pair: Pair) -> None:
    """To have attached is not to look at `stopping`."""
    code = "signal.signal(signal.SIGTERM, lambda *_: (print('signalled', flush=True), os._exit(0)))\n"
    with pair.run(code + "print('ready', flush=True)\nsignal.pause()") as command:
        assert command.says("ready")
        command.send(signal.SIGTERM)
        assert command.code() == 143
        assert "signalled" in command.out


def test_where_no_socket_can_be_the_command_is_ended_by_signals(pair: Pair, tmp_path: Path) -> None:
    """A temporary folder whose path is too long for a socket is said aloud, and everything else works."""
    (deep := tmp_path / ("d" * 100)).mkdir()
    given = run_args(pair.job, "--run", "r", "--index", "0", replicas="worker=2")
    code = PROGRAM + "print(me.stopping.is_set(), flush=True)\nsignal.pause()"
    with psbarrier(tmp_path, pair.etcd, *given, sys.executable, "-c", code, TMPDIR=str(deep)) as command:
        assert command.says("False")
        command.send(signal.SIGTERM)
        assert command.code() == 143
    assert "cannot be told of a preemption" in command.err
