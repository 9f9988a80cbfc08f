"""psbarrier status, spec, wait and abort: what they say of a job, and that only abort changes anything."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from helpers import eventually
from jobs import call

from cli.helpers import PATIENCE, invoke, keys, psbarrier, unique
from psbarrier import BarrierBrokenError, ClusterSpec, Member, Policy, Task, join
from psbarrier.embedded import EtcdServer, free_ports

JOB = {"ps": 1, "worker": 2}


@contextmanager
def members(etcd: EtcdServer, job: str, *tasks: tuple[str, int], run: str | None = None) -> Iterator[list[Member]]:
    """These tasks of a job, joined; they leave without finishing."""
    with ExitStack() as stack:
        joined = []
        for role, index in tasks:
            member = join(
                etcd.endpoint, job, role, index, replicas=JOB, address="h:1", run=run, policy=Policy(max_restarts=1)
            )
            stack.callback(member.close)
            joined.append(member)
        yield joined


ALL = (("ps", 0), ("worker", 0), ("worker", 1))


class TestStatus:
    """psbarrier status."""

    def test_a_job_that_does_not_exist_is_no_error_text(self, etcd: EtcdServer) -> None:
        """It says so, and exits with 1."""
        job = unique()
        result = invoke(etcd, "status", job)
        assert (result.exit_code, result.stdout) == (1, f"job {job!r} has no run in etcd\n")
        assert invoke(etcd, "status", job, "--json").stdout == "null\n"

    def test_every_task_is_told_with_its_state(self, etcd: EtcdServer) -> None:
        """Registered, not registered, crashed, finished; leader and epoch."""
        job = unique()
        with members(etcd, job, *ALL[:2]) as (ps, worker):
            before = invoke(etcd, "status", job).stdout
            assert "not complete yet, led by ps/0" in before
            assert "worker/1  not registered" in before
            worker.crash("out of memory")
            with members(etcd, job, *ALL[1:]) as (again, _):
                again.cluster(PATIENCE)
                again.finish()
                told = json.loads(invoke(etcd, "status", job, "--json").stdout)
        tasks = {task["task"]: task for task in told["tasks"]}
        assert (told["state"]["phase"], told["epoch"], told["leader"]) == ("running", 1, "ps/0")
        assert (tasks["ps/0"]["state"], tasks["ps/0"]["incarnation"]) == ("registered", ps.incarnation)
        assert (tasks["worker/0"]["state"], tasks["worker/0"]["restarts"]) == ("finished", 1)

    def test_who_waits_at_a_barrier_and_who_is_missing(self, etcd: EtcdServer) -> None:
        """By name and generation."""
        job = unique()
        with members(etcd, job, *ALL) as (ps, one, _):
            barrier, other = one.barrier("epoch"), ps.barrier("epoch")
            waiting = call(barrier.wait, PATIENCE)
            assert eventually(lambda: 'at barrier "epoch" gen 0' in invoke(etcd, "status", job).stdout)
            (told,) = json.loads(invoke(etcd, "status", job, "--json").stdout)["barriers"]
            other.abort()
            assert isinstance(waiting.exception(PATIENCE), BarrierBrokenError)
            assert (told["waiting"], told["missing"]) == ({"worker": "0"}, {"ps": "0", "worker": "1"})
            assert "abort, by ps/0" in invoke(etcd, "status", job).stdout

    def test_an_ended_job_says_how_and_when(self, etcd: EtcdServer) -> None:
        """And why."""
        job = unique()
        with members(etcd, job, ALL[0]) as (ps,):
            ps.fail("no data", 7)
        said = invoke(etcd, "status", job).stdout
        assert "failed, by ps/0: no data (2" in said
        assert "exit code 7" in said

    def test_runs_that_were_named_are_found_too(self, etcd: EtcdServer) -> None:
        """The newest that runs; the others are pointed out."""
        job = unique()
        with members(etcd, job, ALL[0], run="a"), members(etcd, job, ALL[0], run="b"):
            said = invoke(etcd, "status", job).stdout
            assert f"job {job}, run b " in said
            assert "also running: a" in said
            assert f"job {job}, run a " in invoke(etcd, "status", job, "--run", "a").stdout

    def test_watching_ends_with_the_job(self, etcd: EtcdServer, tmp_path: Path) -> None:
        """One JSON line for each change that it saw."""
        job = unique()
        with (
            members(etcd, job, ALL[0]) as (ps,),
            psbarrier(tmp_path, etcd, "status", job, "--watch", "--json") as watch,
        ):
            assert watch.says("\n")
            ps.fail("enough")
            assert watch.code() == 0
        phases = [json.loads(line)["state"]["phase"] for line in watch.out.splitlines()]
        assert (phases[0], phases[-1]) == ("running", "failed")


class TestSpec:
    """psbarrier spec."""

    STATIC = ("spec", "--static", "ps=a:1", "worker=b:1,c:1")

    def test_addresses_alone_need_no_etcd(self) -> None:
        """As JSON by default."""
        result = invoke(None, *self.STATIC)
        assert json.loads(result.stdout)["cluster"] == {"ps": ["a:1"], "worker": ["b:1", "c:1"]}

    def test_a_shell_can_evaluate_what_is_printed(self) -> None:
        """Quotes and all."""
        text = invoke(None, *self.STATIC, "--task", "worker:1", "--format", "tensorflow").stdout
        said = subprocess.run(
            ["sh", "-c", f'{text}\nprintf %s "$TF_CONFIG"'], capture_output=True, text=True, check=True
        )
        assert json.loads(said.stdout)["task"] == {"type": "worker", "index": 1}

    @pytest.mark.parametrize("form", [None, "psbarrier", "tensorflow", "torch", "paddle", "dmlc", "xgboost", "horovod"])
    def test_variables_are_printed_as_json_too(self, form: str | None) -> None:
        """For a program that is no shell."""
        addresses = {"scheduler": ["s:1"], "ps": ["a:1"], "worker": ["b:1", "c:1"]}
        for role in ["ps", "scheduler"] if form != "dmlc" else []:
            del addresses[role]  # not everybody knows these
        words = (f"{role}={','.join(some)}" for role, some in addresses.items())
        options = () if form is None else ("--format", form)
        said = invoke(None, "spec", "--static", *words, "--task", "worker:1", "--json", *options).stdout
        spec = ClusterSpec.from_addresses(addresses)
        assert json.loads(said) == spec.env(form or "psbarrier", Task("worker", 1))

    def test_a_host_file_needs_no_task(self) -> None:
        """And can be written as it is."""
        assert invoke(None, *self.STATIC, "--format", "openmpi").stdout == "a slots=1\nb slots=1\nc slots=1\n"

    def test_a_running_job_is_told_as_it_was_sealed(self, etcd: EtcdServer) -> None:
        """With its run and epoch."""
        job = unique()
        with members(etcd, job, *ALL) as joined:
            spec = joined[0].cluster(PATIENCE)
            told = json.loads(invoke(etcd, "spec", job).stdout)
            assert (told["run"], told["epoch"]) == (spec.run, spec.epoch)
            exports = invoke(etcd, "spec", job, "--task", "ps:0").stdout
            assert f"export PSBARRIER_RUN={shlex.quote(spec.run)}\n" in exports

    def test_a_job_that_is_not_complete_has_none(self, etcd: EtcdServer) -> None:
        """It says where to look."""
        job = unique()
        with members(etcd, job, ALL[0]):
            result = invoke(etcd, "spec", job)
        assert result.exit_code == 1
        assert f"psbarrier status {job}" in result.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            ("spec",),
            ("spec", "--static"),
            ("spec", "--static", "ps"),
            ("spec", "--static", "ps=a"),
            ("spec", "--static", "ps=a:1", "ps=b:1"),
            ("spec", "--static", "worker=a:1", "--format", "tensorflow"),
            ("spec", "--static", "worker=a:1", "--format", "openmpi", "--task", "worker:0"),
            ("spec", "--static", "worker=a:1", "--format", "openmpi", "--json"),
            ("spec", "--static", "worker=a:1", "--format", "dmlc", "--task", "worker:0"),
            ("spec", "--static", "worker=a:1", "--task", "worker:1"),
            ("spec", "a", "b"),
            ("spec", "a b", "--endpoints", "h:1"),
            ("spec", "job"),
        ],
    )
    def test_nonsense_is_a_usage_error(self, arguments: tuple[str, ...]) -> None:
        """2, and one line."""
        result = invoke(None, *arguments)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1


class TestWait:
    """psbarrier wait."""

    def test_a_store_that_answers_ends_the_wait(self, etcd: EtcdServer) -> None:
        """No job is needed for that."""
        assert invoke(etcd, "wait", "--for", "store").exit_code == 0

    def test_a_store_out_of_reach_is_named(self) -> None:
        """112 at the deadline."""
        endpoint = f"127.0.0.1:{free_ports(1)[0]}"
        result = invoke(None, "wait", "--for", "store", "--endpoints", endpoint, "--timeout", "0.3")
        assert result.exit_code == 112
        assert endpoint in result.stderr

    def test_a_role_is_awaited_before_its_job_exists(self, etcd: EtcdServer, tmp_path: Path) -> None:
        """And until its last task is there."""
        job = unique()
        with psbarrier(tmp_path, etcd, "wait", "--for", "role=worker", job) as wait, members(etcd, job, *ALL):
            assert wait.code() == 0

    def test_a_role_that_stays_away_is_a_deadline(self, etcd: EtcdServer) -> None:
        """111, with who is missing."""
        job = unique()
        assert invoke(etcd, "wait", "--for", "role=ps", job, "--timeout", "0").exit_code == 111
        with members(etcd, job, *ALL[:2]):
            result = invoke(etcd, "wait", "--for", "role=worker", job, "--timeout", "3")
            assert result.exit_code == 111
            assert "worker/1 (not registered)" in result.stderr
            assert invoke(etcd, "wait", "--for", "role=worke", job, "--timeout", "3").exit_code == 2

    def test_success_ends_the_wait(self, etcd: EtcdServer, tmp_path: Path) -> None:
        """When the tasks have finished that the policy waits for."""
        job = unique()
        with (
            members(etcd, job, *ALL) as (_, one, two),
            psbarrier(tmp_path, etcd, "wait", "--for", "succeeded", job) as wait,
        ):
            for worker in (one, two):
                worker.cluster(PATIENCE)
                worker.finish()
            assert wait.code() == 0

    def test_failure_ends_it_with_the_reason(self, etcd: EtcdServer) -> None:
        """110."""
        job = unique()
        with members(etcd, job, ALL[0]) as (ps,):
            ps.fail("no data")
        result = invoke(etcd, "wait", "--for", "succeeded", job)
        assert result.exit_code == 110
        assert "no data" in result.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--for", "nothing", "j"),
            ("--for", "role=", "j"),
            ("--for", "succeeded"),
            ("--for", "store", "--timeout", "-1"),
        ],
    )
    def test_nonsense_is_a_usage_error(self, arguments: tuple[str, ...]) -> None:
        """2."""
        assert invoke(None, "wait", "--endpoints", "h:1", *arguments).exit_code == 2


class TestAbort:
    """psbarrier abort."""

    def test_every_task_learns_who_aborted_and_why(self, etcd: EtcdServer) -> None:
        """On one line."""
        job = unique()
        with members(etcd, job, ALL[0]) as (ps,):
            result = invoke(etcd, "abort", job, "--reason", "bad\ndata")
            state = ps.wait_job(PATIENCE)
        assert result.exit_code == 0
        assert (state.phase, state.reason) == ("failed", "bad data")
        assert state.by.startswith("psbarrier abort by ")

    def test_nothing_to_abort_is_said(self, etcd: EtcdServer) -> None:
        """And is no failure, so it can be repeated."""
        job = unique()
        assert invoke(etcd, "abort", job).stdout == f"nothing to abort in job {job!r}: it has no run\n"
        with members(etcd, job, ALL[0]) as (ps,):
            ps.fail("enough")
        before = keys(etcd, job)
        result = invoke(etcd, "abort", job)
        assert result.exit_code == 0
        assert "it has failed, by ps/0: enough" in result.stdout
        assert keys(etcd, job) == before

    def test_which_of_two_runs_must_be_said(self, etcd: EtcdServer) -> None:
        """Neither is ended by a guess."""
        job = unique()
        with members(etcd, job, ALL[0], run="a") as (one,), members(etcd, job, ALL[0], run="b") as (two,):
            assert invoke(etcd, "abort", job).exit_code == 2
            assert invoke(etcd, "abort", job, "--run", "b").exit_code == 0
            assert two.wait_job(PATIENCE).phase == "failed"
            assert one.job_state.phase == "running"


class TestUsage:
    """What can never work."""

    @pytest.mark.parametrize(
        "options",
        [
            ("--role", "ps"),
            ("--role", "ps", "--replicas", "ps=0"),
            ("--role", "ps", "--replicas", "worker=1"),
            ("--role", "ps", "--replicas", "ps=1", "--index", "1"),
            ("--role", "ps", "--replicas", "ps=1", "--ttl", "1"),
            ("--role", "ps", "--replicas", "ps=1", "--address", "nowhere"),
            ("--role", "ps", "--replicas", "ps=1", "--run", "a/b"),
            ("--role", "ps", "--replicas", "ps=1", "--emit", "tensorflow"),
            ("--role", "ps", "--replicas", "ps=1", "--success", "worker"),
            ("--role", "ps", "--replicas", "ps=1", "--loss-grace", "worker=1"),
            ("--role", "ps", "--replicas", "ps=1", "--gate-timeout", "inf"),
            ("--role", "ps", "--replicas", "ps=1", "--takeover", "never"),
            ("--role", "ps", "--replicas", "ps=1", "--prefix", "no-slash"),
            ("--role", "ps", "--replicas", "ps=1", "--password-file", "/no/such/file"),
            ("--role", "ps", "--replicas", "ps=1", "--user", "me"),
        ],
    )
    def test_nonsense_changes_nothing_in_etcd(self, etcd: EtcdServer, options: tuple[str, ...]) -> None:
        """It is refused before any request."""
        job = unique()
        result = invoke(etcd, "run", "--job", job, *options, "--", "true")
        assert result.exit_code == 2, result.output
        assert not keys(etcd, job)

    def test_no_password_is_taken_as_an_argument(self) -> None:
        """Everybody on the machine could read it."""
        assert invoke(None, "status", "j", "--password", "secret").exit_code == 2

    @pytest.mark.parametrize("command", ["abort", "local", "run", "spec", "status", "wait"])
    def test_every_command_explains_itself(self, command: str) -> None:
        """With --help."""
        result = invoke(None, command, "--help")
        assert result.exit_code == 0
        assert "--endpoints" in result.stdout
