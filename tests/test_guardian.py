"""The guardian: a process that holds the task for the one that trains, and tells how that one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import alive, eventually, processes, python
from jobs import PATIENCE, TWO, Place
from store.helpers import Recorder

import psbarrier
from psbarrier import Member, MemberState, Policy
from psbarrier.errors import GuardianError, InvalidArgumentError
from psbarrier.parent import Parent
from psbarrier.protocol.records import Registration
from psbarrier.store.access import Access
from psbarrier.store.etcd import EtcdStore
from psbarrier.testing import EtcdCluster

pytestmark = pytest.mark.e2e

TRAINING = """
import ctypes, os, signal, sys, time
import psbarrier

def join(ttl, **options):
    return psbarrier.join(
        sys.argv[1], sys.argv[2], "worker", 0, replicas="worker=2", run="run", address="h:1", ttl=ttl, guardian=True,
        policy=psbarrier.Policy(max_restarts=2), **options
    )
"""
PATIENT = Policy(max_restarts=2)
LONG = 600
"""Seconds of a TTL: what is known before has not been found out by it."""


class Other:
    """The other worker of the job, in this process, and what it hears of worker/0."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.member = place.join("worker", 1, policy=PATIENT, ttl=LONG)

    def why_gone(self) -> str:
        """Why worker/0 is not there, as all members are told; empty while it is."""
        loss = self.member._view.gone.lost.get(psbarrier.Task("worker", 0))
        return loss.why if loss else ""

    def registration(self) -> Registration | None:
        found = [kv for kv in self.place.kvs() if kv.key.endswith("members/worker/0")]
        return Registration.unpack(found[0].key, found[0].value) if found else None


@pytest.fixture
def other(real: Place) -> Other:
    """A job of two, one of which is here."""
    return Other(real)


@contextmanager
def training(place: Place, code: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code` after TRAINING."""
    assert place.etcd is not None
    with python(TRAINING + code, place.etcd.endpoint, place.job, **options) as process:
        yield process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def guardian_of(pid: int) -> int:
    """The process id of the guardian that a process has started."""
    found = [pid_ for pid_, (parent, words) in processes().items() if parent == pid and "guardian_process" in words]
    assert len(found) == 1, found
    return found[0]


HOLD = """
me = join(ttl=int(sys.argv[3]))
me.cluster()
print("holds", flush=True)
ctypes.PyDLL(None).sleep(int(sys.argv[4]))  # PyDLL does not let go of the GIL
print(me.cluster(timeout=10).epoch, flush=True)
me.barrier("after").wait(30)
me.close()
"""


def hold_the_gil(other: Other, ttl: int, seconds: int) -> None:
    place, heard = other.place, Recorder()
    assert place.etcd is not None
    watch = place.store.watch(f"{place.store.prefix}/{place.job}/runs/run/members/", heard, until=place.soon())
    with python(TRAINING + HOLD, place.etcd.endpoint, place.job, str(ttl), str(seconds)) as process:
        assert line(process) == "holds"
        assert line(process) == "1"
        assert other.member.barrier("after").wait(PATIENCE) in (0, 1)
        assert process.wait(PATIENCE) == 0
    # Its end is the first that is heard of it since it came.
    assert eventually(lambda: any(event.deleted for event in heard.seen))
    changes = [event.deleted for event in heard.seen if event.kv.key.endswith("worker/0")]
    watch.stop()
    assert changes == [False, True]


def test_a_step_that_keeps_the_gil_for_longer_than_the_ttl_loses_nothing(other: Other) -> None:
    """Seven seconds at a TTL of two: no thread of that process can beat meanwhile."""
    hold_the_gil(other, ttl=2, seconds=7)


@pytest.mark.slow
def test_a_step_that_keeps_the_gil_for_a_minute_loses_nothing(other: Other) -> None:
    """At a TTL of five."""
    hold_the_gil(other, ttl=5, seconds=60)


def test_a_process_that_is_killed_is_missed_at_once(other: Other) -> None:
    """And not when its lease would have run out; it counts as a crash, by name of the signal."""
    with training(other.place, f"me = join({LONG}); me.cluster(); print('up', flush=True); signal.pause()") as process:
        assert line(process) == "up"
        process.kill()
        assert eventually(other.why_gone)
    assert "crashed" in other.why_gone()
    assert "was killed by SIGKILL" in other.why_gone()
    assert other.registration() is None


ENDS = {
    "sys.exit(3)": "crashed exited with code 3",
    "raise ValueError('no')": "crashed exited with code 1",
    "os._exit(4)": "crashed exited with code 4",
    "os.abort()": "crashed was killed by SIGABRT",
    "pass": "left exited with code 0",
    "os.kill(os.getpid(), signal.SIGTERM)": "left was killed by SIGTERM",
}


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_how_it_ended_decides_what_that_means(other: Other, end: str) -> None:
    """A process that ends without closing its member is told apart as by `psbarrier run`, if its status can be read.

    (That is so until its own parent collects the status, which this one does late.)
    """
    kind, _, words = ENDS[end].partition(" ")
    with training(other.place, f"me = join({LONG}); me.cluster()\n{end}", stderr=subprocess.DEVNULL) as process:
        assert eventually(other.why_gone)
        assert process.wait(PATIENCE) is not None
    assert kind in other.why_gone()
    assert words in other.why_gone()


def test_an_end_that_cannot_be_read_is_known_at_once_too(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its own parent has collected the status: the task may come back, as one whose lease ran out."""
    (folder := Path(os.environ["TMPDIR"]) / "blind").mkdir()
    (folder / "sitecustomize.py").write_text(
        "import psbarrier.parent\npsbarrier.parent.Parent.status = lambda self: None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with training(other.place, f"me = join({LONG}); me.cluster(); os._exit(3)") as process:
        assert eventually(other.why_gone)
        assert process.wait(PATIENCE) == 3
    assert "left" in other.why_gone()
    assert "nobody knows how" in other.why_gone()


def test_what_it_reported_itself_stays_as_it_was(other: Other) -> None:
    """The guardian adds nothing to a finish, even when the process ends without closing its member."""
    with training(other.place, f"me = join({LONG}); me.cluster(); me.finish(); os._exit(5)") as process:
        process.wait(PATIENCE)
    assert eventually(lambda: psbarrier.Task("worker", 0) in other.member._view.gone.finished)
    other.member.finish()
    assert other.member.wait_job(PATIENCE).phase == "succeeded"


def test_forked_helpers_keep_nothing_alive(other: Other) -> None:
    """They hold every pipe and socket of the process that is killed, and live on."""
    code = f"""
me = join({LONG}); me.cluster()
helper = os.fork()
if helper == 0:
    signal.pause()
print(helper, flush=True)
signal.pause()
"""
    with training(other.place, code) as process:
        helper = int(line(process))
        process.kill()
        assert eventually(other.why_gone)
        assert alive(helper)
        os.kill(helper, signal.SIGKILL)


def test_what_interrupts_the_process_does_not_end_its_guardian(other: Other) -> None:
    """Ctrl-C goes to all of a terminal's processes; SIGTERM, from whoever cleans up by name, is not for it either."""
    with training(other.place, f"me = join({LONG}); me.cluster(); print('up', flush=True); signal.pause()") as process:
        assert line(process) == "up"
        guardian = guardian_of(process.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guardian, number)
        process.kill()
        assert eventually(other.why_gone)
        assert eventually(lambda: not alive(guardian))


ALONE = """
me = join(ttl=2)
me.cluster()
print("up", flush=True)
for line in sys.stdin:
    print(me.state.value, me.cluster(timeout=30).epoch, flush=True)
"""


def test_a_process_whose_guardian_dies_goes_on_and_leads(real: Place) -> None:
    """With the same lease, for longer than its TTL; and it does the duty of leading that the guardian did."""
    with training(real, ALONE, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        other = Other(real)
        assert line(process) == "up"
        os.kill(guardian_of(process.pid), signal.SIGKILL)
        until = time.monotonic() + 5.0  # two TTLs and more
        epochs = [other.member.cluster(PATIENCE).epoch]
        while time.monotonic() < until:
            other.member.close()  # and somebody seals a new epoch for the next one
            other = Other(real)
            epochs.append(other.member.cluster(PATIENCE).epoch)
        assert epochs == list(range(1, len(epochs) + 1))
        said, warned = process.communicate("state\n", timeout=PATIENCE)
    state, epoch = said.split()
    assert (state, int(epoch)) == ("connected", epochs[-1])
    assert "the guardian of worker/0 is dead" in warned


def test_closing_lets_the_guardian_go(other: Other) -> None:
    """No process is left, nothing is reported, and the task is free at once."""
    assert other.place.etcd is not None
    options: dict[str, Any] = {"replicas": TWO, "run": "run", "address": "h:1", "policy": PATIENT, "ttl": LONG}
    member = psbarrier.join(other.place.etcd.endpoint, other.place.job, "worker", 0, guardian=True, **options)
    guardian = guardian_of(os.getpid())
    assert member.cluster(PATIENCE).epoch == 1
    member.close()
    member.close()
    assert not alive(guardian)
    assert not any("/departures/" in kv.key for kv in other.place.kvs())
    assert other.registration() is None


def test_a_guardian_that_cannot_reach_etcd_fails_the_join(real: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own words; and nothing is left, neither a process nor the registration."""
    assert real.etcd is not None
    store = EtcdStore(real.etcd.endpoint)
    nowhere = Access(endpoints=("127.0.0.1:1",), prefix=store.prefix, timeout=0.3)
    monkeypatch.setattr(EtcdStore, "access", nowhere)
    with store, pytest.raises(GuardianError, match=r"guardian of worker/0 could not be started: .*127\.0\.0\.1:1"):
        real.join("worker", 0, store=store, guardian=True)
    assert not any("/members/" in kv.key for kv in real.kvs())
    assert not [words for parent, words in processes().values() if parent == os.getpid() and "guardian" in words]


def test_a_guardian_needs_an_etcd(memory: Place) -> None:
    """Another process cannot reach a store in memory, and nothing is written to it."""
    with pytest.raises(InvalidArgumentError, match="needs an etcd"):
        memory.join("worker", 0, guardian=True)
    assert not memory.kvs()


@pytest.mark.parametrize("guardian", ["yes", 1])
def test_guardian_is_a_yes_or_no(real: Place, guardian: Any) -> None:
    """Anything else is a mistake."""
    with pytest.raises(InvalidArgumentError, match="guardian="):
        real.join("worker", 0, guardian=guardian)


def test_the_variable_asks_for_a_guardian_too(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every argument of join() has one."""
    monkeypatch.setenv("PSBARRIER_GUARDIAN", "1")
    member: Member = other.place.join("worker", 0, policy=PATIENT)
    assert alive(guardian_of(os.getpid()))
    member.close()


def test_a_loss_reaches_a_process_with_a_guardian(other: Other) -> None:
    """A lease that was revoked by force fences both; the guardian ends."""
    member = other.place.join("worker", 0, policy=PATIENT, ttl=2, guardian=True)
    guardian = guardian_of(os.getpid())
    other.place.lose(member)
    assert eventually(lambda: member.state is MemberState.LOST)
    assert eventually(lambda: not alive(guardian))


def test_it_rides_out_the_loss_of_etcds_leader() -> None:
    """Both the guardian and the process find another member of etcd."""
    with EtcdCluster() as cluster:
        options: dict[str, Any] = {"replicas": TWO, "run": "run", "address": "h:1"}
        with (
            psbarrier.join(cluster.endpoints, "j", "worker", 0, guardian=True, **options) as me,
            psbarrier.join(cluster.endpoints, "j", "worker", 1, **options) as other,
        ):
            assert me.cluster(PATIENCE) == other.cluster(PATIENCE)
            cluster.kill_leader()
            me.share("alive", True)
            assert other.get("alive", PATIENCE) is True
            assert alive(guardian_of(os.getpid()))


# -- what a guardian learns of its parent


def test_a_parent_that_is_gone_already_counts_as_ended(tmp_path: Path) -> None:
    """It may die before its guardian has looked at it once."""
    reading, writing = os.pipe()
    try:
        assert Parent(1 if os.getppid() != 1 else 2, reading).gone(0) is True
    finally:
        os.close(reading)
        os.close(writing)


def test_a_parent_may_let_go() -> None:
    """`end` may come in pieces."""
    reading, writing = os.pipe()
    try:
        parent = Parent(os.getppid(), reading)
        assert parent.gone(0) is None
        os.write(writing, b"en")
        assert parent.gone(0) is None
        os.write(writing, b"d\n")
        assert parent.gone(PATIENCE) is False
    finally:
        os.close(reading)
        os.close(writing)


def test_without_news_from_the_kernel_the_parent_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: its process id changes when it dies."""

    def unknown(pid: int) -> int:
        raise AttributeError(pid)

    monkeypatch.setattr(os, "pidfd_open", unknown)
    reading, writing = os.pipe()
    try:
        parent = Parent(os.getppid(), reading)
        assert parent.gone(0) is None
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert parent.gone(PATIENCE) is True
    finally:
        os.close(reading)
        os.close(writing)


def test_an_end_that_nobody_saw_has_no_status() -> None:
    """A process that was reaped, or still runs, has none."""
    reading, writing = os.pipe()
    try:
        assert Parent(os.getppid(), reading).status() is None
        with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert Parent(child.pid, reading).status() == 3
        assert Parent(child.pid, reading).status() is None
    finally:
        os.close(reading)
        os.close(writing)
