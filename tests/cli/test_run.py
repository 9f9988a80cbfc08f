"""psbarrier run: real processes, and how each end is told to the shell and to the job."""

from __future__ import annotations

import json
import signal
import stat
import sys
from pathlib import Path

import pytest
from helpers import alive, eventually

from cli import helpers
from cli.helpers import BLOCK, PATIENCE, STUBBORN, finished, keys, psbarrier, run_args, unique
from psbarrier.cli import runs, snapshot
from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.protocol.keys import JobKeys
from psbarrier.store.etcd import EtcdStore

TWO = "ps=1,worker=1"


def state(etcd: EtcdServer, job: str) -> snapshot.Snapshot:
    """How the job stands."""
    with EtcdStore(etcd.endpoint) as store:
        run = runs.find(store, JobKeys("/psbarrier", job), None).meant()
        assert run is not None
        now = snapshot.read(store, job, run.name, run.keys)
        assert now is not None
        return now


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def test_a_command_that_ends_well_finishes_its_task(etcd: EtcdServer, tmp_path: Path) -> None:
    """0, silence, and a job that has succeeded."""
    job = unique()
    command = finished(tmp_path, etcd, *run_args(job), "echo", "hello")
    assert (command.code(), command.out, command.err) == (0, "hello\n", "")
    assert state(etcd, job).state.phase == "succeeded"


def test_a_command_is_told_who_it_is(etcd: EtcdServer, tmp_path: Path) -> None:
    """By variables, and by a private file with the whole spec, which does not outlive it."""
    code = (
        "import json, os; p = os.environ['PSBARRIER_CLUSTER_FILE'];"
        "print(json.dumps([dict(os.environ), json.load(open(p)), os.stat(p).st_mode]))"
    )
    options = ("--emit", "tensorflow", "--address", "h:1")
    command = finished(tmp_path, etcd, *run_args(unique(), *options), *python(code), PSBARRIER_INDEX="0", ODD="kept")
    variables, spec, mode = json.loads(command.out)
    assert spec["cluster"] == {"worker": ["h:1"]}
    assert stat.S_IMODE(mode) == 0o600
    assert json.loads(variables["TF_CONFIG"])["task"] == {"type": "worker", "index": 0}
    assert (variables["PSBARRIER_ROLE"], variables["PSBARRIER_ENDPOINTS"], variables["ODD"]) == (
        "worker",
        etcd.endpoint,
        "kept",
    )
    assert int(variables["PSBARRIER_FENCING_TOKEN"]) > 0
    assert not Path(variables["PSBARRIER_CLUSTER_FILE"]).parent.exists()


def test_the_ready_file_is_there_while_the_command_runs(etcd: EtcdServer, tmp_path: Path) -> None:
    """Not while it waits at the gate, even if a former process left one behind; and not afterwards."""
    ready, job = tmp_path / "ready", unique()
    ready.touch()
    args = run_args(job, "--ready-file", str(ready), replicas=TWO)
    with psbarrier(tmp_path, etcd, *args, *BLOCK) as waiting:
        assert eventually(lambda: "0 of 2" in waiting.err or "1 of 2" in waiting.err, PATIENCE), waiting.text
        assert not ready.exists()
        with psbarrier(tmp_path, etcd, *run_args(job, role="ps", replicas=TWO), *BLOCK):
            assert waiting.says("up"), waiting.text
            assert eventually(ready.exists, PATIENCE)
            waiting.send(signal.SIGTERM)
            assert waiting.code() == 143
    assert not ready.exists()


def test_a_ready_file_that_cannot_be_is_refused(etcd: EtcdServer, tmp_path: Path) -> None:
    """Before anything is known of the task in etcd."""
    job = unique()
    for path, words in ((tmp_path / "none" / "ready", "in a folder that is there"), (tmp_path, "cannot be replaced")):
        command = finished(tmp_path, etcd, *run_args(job, "--ready-file", str(path)), "true")
        assert (command.code(), words in command.err) == (2, True), command.text
    assert not keys(etcd, job)


@pytest.mark.parametrize(("exit_code", "code"), [(7, 7), (112, 1)])
def test_a_commands_own_code_passes_through(etcd: EtcdServer, tmp_path: Path, exit_code: int, code: int) -> None:
    """Except what psbarrier itself means something by."""
    job = unique()
    command = finished(tmp_path, etcd, *run_args(job), "sh", "-c", f"exit {exit_code}")
    assert command.code() == code
    assert f"exited with code {exit_code}" in command.err
    ended = state(etcd, job).state
    assert (ended.phase, ended.by, ended.exit_code) == ("failed", "worker/0", code)


def test_a_killed_command_is_a_crash_that_says_by_what_and_when(etcd: EtcdServer, tmp_path: Path) -> None:
    """137, as a shell says it."""
    job = unique()
    command = finished(tmp_path, etcd, *run_args(job), "sh", "-c", "kill -9 $$")
    assert command.code() == 137
    assert "killed by SIGKILL at 2" in state(etcd, job).state.reason


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_goes_on_to_the_command_and_the_task_leaves(
    etcd: EtcdServer, tmp_path: Path, number: int, code: int
) -> None:
    """Leaving is no crash: the job goes on without it for a while."""
    job = unique()
    with psbarrier(tmp_path, etcd, *run_args(job), *BLOCK) as command:
        assert command.says("up")
        command.send(number)
        assert command.code() == code
    assert state(etcd, job).state.phase == "running"
    assert state(etcd, job).tasks[0].state.startswith("left")


def test_a_command_that_ends_well_at_sigterm_has_left(etcd: EtcdServer, tmp_path: Path) -> None:
    """It has written its last checkpoint, perhaps, and is not done: a preemption must not make the job succeed."""
    job = unique()
    with psbarrier(
        tmp_path, etcd, *run_args(job), "sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
    ) as run:
        assert run.says("up")
        run.send(signal.SIGTERM)
        assert run.code() == 143
    assert state(etcd, job).state.phase == "running"
    assert state(etcd, job).tasks[0].state.startswith("left")


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(etcd: EtcdServer, tmp_path: Path) -> None:
    """With everything that it started."""
    with psbarrier(tmp_path, etcd, *run_args(unique(), "--grace", "0.3"), *STUBBORN) as command:
        assert command.says("up")
        command.send(signal.SIGTERM)
        assert command.code() == 143


def test_a_second_signal_kills_at_once(etcd: EtcdServer, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice means it."""
    with psbarrier(tmp_path, etcd, *run_args(unique(), "--grace", "1000"), *STUBBORN) as command:
        assert command.says("up")
        command.send(signal.SIGINT)
        assert eventually(lambda: "second signal" in command.err)
        command.send(signal.SIGINT)
        assert command.code() == 130


def test_a_signal_at_the_gate_ends_the_wait(etcd: EtcdServer, tmp_path: Path) -> None:
    """And frees the task at once."""
    job = unique()
    with psbarrier(tmp_path, etcd, *run_args(job, replicas=TWO), "true") as command:
        assert eventually(lambda: any("/members/worker/0" in kv.key for kv in keys(etcd, job)), PATIENCE)
        command.send(signal.SIGTERM)
        assert command.code() == 143
    assert not any("/members/" in kv.key for kv in keys(etcd, job))


def test_helpers_that_outlive_the_command_end_with_it(etcd: EtcdServer, tmp_path: Path) -> None:
    """The command itself is waited for, and not its output, which helpers keep open."""
    command = finished(tmp_path, etcd, *run_args(unique()), "sh", "-c", "sleep 1000 & echo $!")
    assert command.code() == 0
    assert not alive(int(command.out))


def test_when_the_job_succeeds_whoever_still_runs_is_ended(etcd: EtcdServer, tmp_path: Path) -> None:
    """A ps that would serve for ever ends with 0, soon after the last worker."""
    job = unique()
    with psbarrier(tmp_path, etcd, *run_args(job, role="ps", replicas=TWO), *BLOCK) as server:
        with psbarrier(tmp_path, etcd, *run_args(job, replicas=TWO), *BLOCK[:2], "echo up; sleep 0.1") as worker:
            assert worker.code() == 0
        assert server.process.wait(10) == 0
        assert "has succeeded" in server.err


def test_when_the_job_fails_elsewhere_the_command_is_ended_and_told_why(etcd: EtcdServer, tmp_path: Path) -> None:
    """110, with the culprit, the reason and the time."""
    job = unique()
    with psbarrier(tmp_path, etcd, *run_args(job, role="ps", replicas=TWO), *BLOCK) as server:
        with psbarrier(tmp_path, etcd, *run_args(job, replicas=TWO), "sh", "-c", "kill -9 $$") as worker:
            assert worker.code() == 137
        assert server.process.wait(10) == 110
        assert "worker/0 crashed: its command was killed by SIGKILL at 2" in server.err


def test_a_lost_task_ends_its_command(etcd: EtcdServer, tmp_path: Path) -> None:
    """Another process took it by force: 114."""
    job = unique()
    with psbarrier(tmp_path, etcd, *run_args(job), *BLOCK) as first:
        assert first.says("up")
        second = finished(tmp_path, etcd, *run_args(job, "--index", "0", "--takeover", "force"), "true")
        assert second.code() == 0
        assert first.code() == 114
        assert "no longer holds worker/0" in first.err


def test_a_taken_task_is_refused_by_name(etcd: EtcdServer, tmp_path: Path) -> None:
    """114, with who holds it."""
    job = unique()
    with psbarrier(tmp_path, etcd, *run_args(job), *BLOCK) as first:
        assert first.says("up")
        second = finished(tmp_path, etcd, *run_args(job, "--index", "0", "--join-timeout", "3"), "true")
        assert second.code() == 114
        assert f"held by process {first.process.pid}" in second.err


def test_a_task_that_has_finished_is_not_started_again(etcd: EtcdServer, tmp_path: Path) -> None:
    """0: a Pod that comes back has nothing left to do."""
    job = unique()
    for text in ("once\n", ""):
        command = finished(tmp_path, etcd, *run_args(job, "--run", "r"), "echo", "once")
        assert (command.code(), command.out) == (0, text)


def test_a_gate_that_stays_shut_is_a_deadline(etcd: EtcdServer, tmp_path: Path) -> None:
    """111, with who is missing and why; the command never ran."""
    command = finished(tmp_path, etcd, *run_args(unique(), "--gate-timeout", "0.3", replicas=TWO), "echo", "ran")
    assert (command.code(), command.out) == (111, "")
    assert "missing: ps/0 (never registered)" in command.err


def test_an_etcd_out_of_reach_says_where_it_was_sought(tmp_path: Path) -> None:
    """112."""
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"
    options = ("--endpoints", endpoint, "--join-timeout", "0.3")
    command = finished(tmp_path, None, *run_args("job", *options), "true")
    assert command.code() == 112
    assert endpoint in command.err
    assert "Traceback" not in command.err


@pytest.mark.e2e
def test_a_command_that_attaches_uses_the_same_task(etcd: EtcdServer, tmp_path: Path) -> None:
    """It finishes by itself, goes on for as long as it likes, and its code still counts."""
    job = unique()
    code = (
        "import psbarrier, sys\n"
        "with psbarrier.join() as me: me.cluster(); print(me.task, me.job)\n"
        "sys.stdin.read(); print('after'); sys.exit(int(sys.argv[1]))"
    )
    for number, run in enumerate(("r0", "r1")):
        command = finished(tmp_path, etcd, *run_args(job, "--run", run), *python(code), str(number))
        assert (command.code(), command.out) == (number, f"worker/0 {job}\nafter\n"), command.text
        assert state(etcd, job).state.phase == "succeeded"


def test_a_crash_that_the_command_reported_itself_counts_once(etcd: EtcdServer, tmp_path: Path) -> None:
    """Its own words are kept, and one restart is used up, not two."""
    job = unique()
    code = "import psbarrier\nwith psbarrier.join() as me:\n  me.cluster()\n  raise ValueError('boom')"
    command = finished(tmp_path, etcd, *run_args(job, "--max-restarts", "1"), *python(code))
    assert command.code() == 1, command.text
    (task,) = state(etcd, job).tasks
    assert (task.state, task.restarts) == ("crashed: ValueError: boom", 1)


@pytest.mark.e2e
def test_a_later_epoch_reaches_the_cluster_file(etcd: EtcdServer, tmp_path: Path) -> None:
    """By default a running command only finds the new file."""
    job, options = unique(), ("--max-restarts", "1")
    watch = "until grep -q '\"epoch\":2' $PSBARRIER_CLUSTER_FILE; do sleep 0.02; done; echo epoch 2; exec sleep 1000"
    with psbarrier(tmp_path, etcd, *run_args(job, *options, role="ps", replicas=TWO), "sh", "-c", watch) as server:
        assert finished(tmp_path, etcd, *run_args(job, *options, replicas=TWO), "false").code() == 1
        with psbarrier(tmp_path, etcd, *run_args(job, *options, replicas=TWO), *BLOCK):
            assert server.says("epoch 2"), server.text


@pytest.mark.e2e
def test_a_later_epoch_starts_the_command_again_if_asked(etcd: EtcdServer, tmp_path: Path) -> None:
    """For frameworks that cannot take a new member while they run; it is no crash."""
    job, options = unique(), ("--max-restarts", "1")
    server_args = run_args(job, *options, "--on-epoch", "restart", role="ps", replicas=TWO)
    with psbarrier(tmp_path, etcd, *server_args, "sh", "-c", "echo epoch $PSBARRIER_EPOCH; exec sleep 1000") as server:
        assert finished(tmp_path, etcd, *run_args(job, *options, replicas=TWO), "false").code() == 1
        with psbarrier(tmp_path, etcd, *run_args(job, *options, replicas=TWO), *BLOCK):
            assert server.says("epoch 2"), server.text
            assert "epoch 1" in server.out
            assert {task.task: task.restarts for task in state(etcd, job).tasks} == {"ps/0": 0, "worker/0": 1}


def test_killing_psbarrier_itself_ends_the_command(etcd: EtcdServer, tmp_path: Path) -> None:
    """A trainer without its lease must not go on."""
    with psbarrier(tmp_path, etcd, *run_args(unique()), "sh", "-c", "echo $$; exec sleep 1000") as command:
        assert command.says("\n")
        command.process.kill()
        assert eventually(lambda: not alive(int(command.out)))


def test_a_variable_too_large_for_linux_ends_the_job_with_the_sizes(
    etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the command starts, and for all: it would be the same at every try. (Here Linux allows less than it does.)"""
    job = unique()
    smaller = f"from psbarrier.cli import environment; environment.LARGEST = 200; {helpers.MAIN[-1]}"
    monkeypatch.setattr(helpers, "MAIN", (*helpers.MAIN[:-1], smaller))
    options = ("--emit", "tensorflow", "--address", f"{'h' * 90}:1")
    with psbarrier(tmp_path, etcd, *run_args(job, *options, replicas="worker=2"), "echo", "ran") as other:
        command = finished(tmp_path, etcd, *run_args(job, *options, replicas="worker=2"), "echo", "ran")
        assert {command.code(), other.code()} <= {2, 110}
    assert (command.out, other.out) == ("", "")
    assert "Linux allows 200" in command.err + other.err
    assert state(etcd, job).state.phase == "failed"


def test_standard_input_reaches_the_command(etcd: EtcdServer, tmp_path: Path) -> None:
    """Here it is /dev/null, which ends at once."""
    assert finished(tmp_path, etcd, *run_args(unique()), "cat").code() == 0
