"""The client, over HTTP: all objects or none, what is refused said in words, and exactly what was made taken away again."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from cli.helpers import invoke

from k8s.goldens import FIRST

pytest.importorskip("kubernetes", reason="the package kubernetes is not installed: tox -e k8s has it")
pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: tox -e k8s has it")

from k8s.fake_api import FakeApi

MADE = ["Deployment/digits-etcd", "Job/digits", "NetworkPolicy/digits-etcd", "Service/digits", "Service/digits-etcd"]
TWO_ROLES = """\
name: ctr
image: ctr:1
command: [train]
roles: {ps: 1, worker: {replicas: 2, port: 1}}
resources: {requests: {cpu: 1, memory: 1Gi}}
etcd: {endpoints: [%s]}
"""


def test_submit_makes_everything_once_the_server_has_checked_all(api: FakeApi, k8s: Any) -> None:
    """First all dry runs, then the objects, the Job before what it owns."""
    done = k8s("submit", str(FIRST))
    assert done.exit_code == 0, done.output
    assert api.names() == MADE
    dry = ["dryRun=All" in path for method, path in api.requests if method == "PATCH"]
    assert dry == [True] * 5 + [False] * 5
    job = api.objects["jobs.batch", "ads", "digits"]
    for each in api.objects.values():
        owners = [owner["uid"] for owner in each["metadata"].get("ownerReferences", [])]
        assert owners == ([] if each is job else [job["metadata"]["uid"]])


def test_a_dry_run_changes_nothing(api: FakeApi, k8s: Any) -> None:
    """But has the server check everything."""
    assert "job/digits would be made" in k8s("submit", str(FIRST), "--dry-run").output
    assert api.objects == {}
    assert len(api.requests) == 5


def test_what_the_dry_run_refuses_is_said_all_at_once(api: FakeApi, k8s: Any) -> None:
    """And nothing is made: each sentence says which verb on which resource is missing."""
    api.denied = {("create", "jobs"), ("patch", "services"), ("create", "networkpolicies")}
    done = k8s("submit", str(FIRST))
    assert done.exit_code == 1
    for right, resource in (
        ("create", "jobs.batch"),
        ("patch", "services"),
        ("create", "networkpolicies.networking.k8s.io"),
    ):
        assert f"the verb {right!r} on the resource {resource!r}" in done.output
    assert api.objects == {}


@pytest.mark.parametrize("refused", ["digits", "digits-etcd"])
def test_when_one_is_refused_after_all_nothing_stays(api: FakeApi, k8s: Any, refused: str) -> None:
    """What the dry run did not foresee: a quota that was used up meanwhile, say."""
    api.refused = {refused: "exceeded quota"}
    done = k8s("submit", str(FIRST))
    assert done.exit_code == 1
    assert "exceeded quota" in done.output
    assert api.objects == {}


def test_what_cannot_be_taken_away_again_is_named(api: FakeApi, k8s: Any) -> None:
    """So that somebody else can do it."""
    api.refused, api.denied = {"digits-etcd": "no"}, {("delete", "jobs")}
    done = k8s("submit", str(FIRST))
    assert "could not be taken away again: Job 'digits'" in done.output


def test_what_is_there_is_not_changed(api: FakeApi, k8s: Any) -> None:
    """A Service of somebody else's with the same name, or the same job a second time."""
    api.put("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "digits"}, "spec": {}})
    done = k8s("submit", str(FIRST))
    assert done.exit_code == 2
    assert "Service 'digits' of namespace 'ads' would be changed" in done.output
    assert api.names() == ["Service/digits"]


def test_delete_removes_exactly_what_submit_made(api: FakeApi, k8s: Any, tmp_path: Path) -> None:
    """Not a job whose name begins alike, nor what somebody made by hand."""
    other = tmp_path / "other.yaml"
    other.write_text(FIRST.read_text().replace("name: digits", "name: digits2"))
    api.put("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"}, "spec": {}})
    assert k8s("submit", str(other)).exit_code == 0
    before = api.names()
    assert k8s("submit", str(FIRST)).exit_code == 0
    assert "job/digits would be deleted" in k8s("delete", str(FIRST), "--dry-run").output
    assert len(api.names()) == len(before) + 5
    done = k8s("delete", str(FIRST))
    assert done.exit_code == 0, done.output
    assert api.names() == before
    assert "nothing of job 'digits'" in k8s("delete", str(FIRST)).output


def test_the_job_takes_all_with_it_when_its_time_is_over(api: FakeApi, k8s: Any) -> None:
    """Kubernetes deletes a Job some time after its end; nothing of it stays behind."""
    assert k8s("submit", str(FIRST)).exit_code == 0
    del api.objects["jobs.batch", "ads", "digits"]
    api._collect()
    assert api.objects == {}


def test_two_submissions_of_two_jobs_have_runs_of_their_own(api: FakeApi, k8s: Any, tmp_path: Path) -> None:
    """A Job for each role: both carry the run, and the next submission has another."""
    file, runs = tmp_path / "job.yaml", []
    file.write_text(TWO_ROLES % "etcd:2379")
    for _ in range(2):
        assert k8s("submit", str(file)).exit_code == 0
        made = [each for each in api.objects.values() if each["kind"] == "Job"]
        (run,) = {each["metadata"]["labels"]["psbarrier/run"] for each in made}
        runs.append(run)
        assert k8s("delete", str(file)).exit_code == 0
    assert len(set(runs)) == 2


def test_the_servers_warnings_are_passed_on(api: FakeApi, k8s: Any) -> None:
    """Pod Security in the mode "warn", for example."""
    api.warnings = ["would violate PodSecurity"]
    assert "Kubernetes warns: would violate PodSecurity" in k8s("submit", str(FIRST), "--dry-run").output


def test_a_cluster_without_jobset_says_so(api: FakeApi, k8s: Any) -> None:
    """And what else would do."""
    done = k8s("submit", str(FIRST), "--kind", "jobset")
    assert done.exit_code == 1
    assert "this cluster has no jobsets" in done.output
    assert api.objects == {}


def test_a_cluster_that_is_not_there_is_named(k8s: Any, api: FakeApi, tmp_path: Path) -> None:
    """With what to look at."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        api.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = invoke(None, "k8s", "submit", str(FIRST), "--kubeconfig", api.kubeconfig(tmp_path))
    assert done.exit_code == 1
    assert f"the API server {api.url} cannot be reached" in done.output
    empty = tmp_path / "empty"
    empty.write_text("")
    done = invoke(None, "k8s", "submit", str(FIRST), "--kubeconfig", str(empty))
    assert done.exit_code == 2
    assert "there is no cluster to talk to" in done.output
