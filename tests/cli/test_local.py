"""psbarrier local: whole jobs of real processes on this machine, and nothing left of them."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from helpers import alive, eventually, processes

from cli.helpers import BLOCK, STUBBORN, Command, finished, keys, psbarrier, unique
from psbarrier.embedded import EtcdServer

pytestmark = pytest.mark.e2e

JOB = ("local", "--ps", "1", "--worker", "2")
LOOP = "exec sleep 1000"


def shell(worker: str, ps: str = LOOP) -> tuple[str, ...]:
    """A command that does one thing as a ps and another as a worker."""
    return "--", "sh", "-c", f"if [ $PSBARRIER_ROLE = ps ]; then {ps}; else {worker}; fi"


def lines(command: Command) -> list[str]:
    return sorted(command.out.splitlines())


def test_a_job_runs_from_an_empty_machine_to_its_end(tmp_path: Path) -> None:
    """Each line with its task, every task on a port of its own, and a ps that ends with the last worker."""
    command = finished(tmp_path, None, *JOB, *shell("echo $PSBARRIER_INDEX $PSBARRIER_ADDRESS"))
    assert command.code() == 0, command.text
    told = re.findall(r"^\[worker/(\d)\] (\d) 127\.0\.0\.1:(\d+)$", command.out, re.MULTILINE)
    assert sorted(label for label, _, _ in told) == sorted(index for _, index, _ in told) == ["0", "1"]
    assert len({port for _, _, port in told}) == 2
    assert re.search(r"^psbarrier: job 'local' has succeeded after [\d.]+ s$", command.err, re.MULTILINE)


def test_commands_that_use_psbarrier_need_no_argument(tmp_path: Path) -> None:
    """join() finds everything, barriers work, and a ps that waits for the job's end ends by itself."""
    code = (
        "import psbarrier\n"
        "with psbarrier.join() as me:\n"
        "    me.cluster()\n"
        "    me.barrier('start').wait(60)\n"
        "    if me.task.role == 'ps':\n"
        "        print(me.wait_job(None), flush=True)\n"
        "    else:\n"
        "        me.barrier('workers', roles=('worker',)).wait(60)\n"
        "        print('met')\n"
    )
    command = finished(tmp_path, None, *JOB, "--", sys.executable, "-c", code)
    assert command.code() == 0, command.text
    assert lines(command) == ["[ps/0] succeeded", "[worker/0] met", "[worker/1] met"]


def test_without_restarts_a_crash_ends_the_job_with_its_code(tmp_path: Path) -> None:
    """Every task says which one it was, why and when."""
    command = finished(tmp_path, None, *JOB, *shell(LOOP, ps="kill -9 $$"))
    assert command.code() == 137, command.text
    for task in ("worker/0", "worker/1"):
        assert re.search(rf"{task} ends, .* by ps/0: .* killed by SIGKILL at \d{{4}}-", command.err), command.err
    assert "has failed after" in command.err.splitlines()[-1]


def test_a_crashed_worker_is_started_again(tmp_path: Path) -> None:
    """With its count of restarts, on another port, and the job succeeds."""
    worker = "echo $PSBARRIER_INDEX.$PSBARRIER_RESTARTS; [ $PSBARRIER_INDEX.$PSBARRIER_RESTARTS != 1.0 ] || exit 3"
    # The other one stays until it sees the later epoch.
    stay = "[ $PSBARRIER_INDEX = 1 ] || until grep -q '\"epoch\":2' $PSBARRIER_CLUSTER_FILE; do sleep 0.02; done"
    command = finished(tmp_path, None, *JOB, "--max-restarts", "1", *shell(f"{worker}; {stay}"))
    assert command.code() == 0, command.text
    assert lines(command) == ["[worker/0] 0.0", "[worker/1] 1.0", "[worker/1] 1.1"]
    assert "worker/1 crashed: its command exited with code 3" in command.err


def test_a_crash_too_many_ends_the_job(tmp_path: Path) -> None:
    """With the code of the last one."""
    command = finished(
        tmp_path, None, "local", "--worker", "1", "--max-restarts", "1", "--", "sh", "-c", "echo up; exit 4"
    )
    assert (command.code(), command.out) == (4, "[worker/0] up\n" * 2)
    assert "had been used up" in command.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_commands(tmp_path: Path, number: int, code: int) -> None:
    """Whichever way one stops it."""
    with psbarrier(tmp_path, None, *JOB, "--", *BLOCK) as command:
        assert command.says("up", 3), command.text
        command.send(number)
        assert command.code() == code
        assert signal.Signals(number).name in command.err.splitlines()[-1]


def test_a_second_signal_kills_all_commands(tmp_path: Path) -> None:
    """Those that ignored the first."""
    with psbarrier(tmp_path, None, *JOB, "--", *STUBBORN) as command:
        assert command.says("up", 3), command.text
        command.send(signal.SIGINT)
        assert eventually(lambda: "second signal" in command.err)
        command.send(signal.SIGINT)
        assert command.code() == 130


def test_killed_itself_it_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    """Not even etcd, nor what the commands have started."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    command_line = (*JOB, "--", "sh", "-c", "sleep 1000 & echo $! $$; wait")
    with psbarrier(tmp_path, None, *command_line, TMPDIR=str(folder)) as command:
        assert command.says("\n", 3), command.text
        started = {int(pid) for line in lines(command) for pid in line.split()[1:]}
        children = {pid for pid, (parent, _) in processes().items() if parent == command.process.pid}
        assert len(started) == 6
        assert len(children - started) >= 2  # etcd, and who cleans up
        assert list(folder.iterdir())
        command.process.kill()
        assert eventually(lambda: not any(map(alive, started | children)) and not list(folder.iterdir()))


def test_an_existing_etcd_can_be_used(etcd: EtcdServer, tmp_path: Path) -> None:
    """Only when it is named: the variable may mean a cluster that is not for trying things out."""
    job = unique()
    arguments = ("local", "--worker", "1", "--job", job)
    assert finished(tmp_path, etcd, *arguments, "--", "true").code() == 0
    assert not keys(etcd, job)
    assert finished(tmp_path, None, *arguments, "--endpoints", etcd.endpoint, "--", "true").code() == 0
    assert keys(etcd, job)


def test_when_nobody_reads_the_output_the_job_ends(tmp_path: Path) -> None:
    """As any filter does: 128 + SIGPIPE."""
    ours, theirs = os.pipe()
    os.close(ours)
    shout = ("--", "sh", "-c", "while :; do echo up; done")
    with open(theirs, "wb") as broken, psbarrier(tmp_path, None, *JOB, *shout, out=broken) as command:
        assert command.code() == 141, command.text


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--ps", "0"),
        ("--ps", "1", "--replicas", "ps=2"),
        ("--worker", "1", "--success", "boss"),
        ("--worker", "1", "--ttl", "1"),
        ("--worker", "1", "--grace", "nan"),
        ("--ps", "1", "--emit", "tensorflow"),
        ("--worker", "1", "--emit", "tensorflaw"),
        ("--worker", "1", "--loss-grace", "ps=x"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """2, in words."""
    command = finished(tmp_path, None, "local", *arguments, "--", "true")
    assert command.code() == 2
    assert "Traceback" not in command.err


def test_a_command_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """Before an etcd is started for it."""
    command = finished(tmp_path, None, "local", "--worker", "1", "--", "no-such-program")
    assert command.code() == 2
    assert "'no-such-program'" in command.err
