"""The client, over HTTP: all objects or none, what is refused said in words, and exactly what was made taken away again."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.helpers import invoke
from click.testing import Result

import psbarrier
from k8s.goldens import FOLDER
from psbarrier.embedded import EtcdServer

pytest.importorskip("kubernetes", reason="the package kubernetes is not installed: tox -e k8s has it")
pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: tox -e k8s has it")

from k8s.fake_api import FakeApi

FIRST = FOLDER / "first" / "described.yaml"
MADE = ["Deployment/digits-etcd", "Job/digits", "NetworkPolicy/digits-etcd", "Service/digits", "Service/digits-etcd"]
TWO_ROLES = """\
name: ctr
image: ctr:1
command: [train]
roles: {ps: 1, worker: {replicas: 2, port: 1}}
resources: {requests: {cpu: 1, memory: 1Gi}}
etcd: {endpoints: [%s]}
"""


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


@pytest.fixture
def k8s(api: FakeApi, tmp_path: Path) -> Any:
    """Run `psbarrier k8s` against that server."""
    config = api.kubeconfig(tmp_path)

    def run(command: str, *args: str) -> Result:
        return invoke(None, "k8s", command, "--kubeconfig", config, *args)

    return run


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


def pod(index: int, status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A Pod of the Job digits, as its controller makes it."""
    own = {
        "app.kubernetes.io/name": "digits",
        "app.kubernetes.io/instance": "digits",
        "app.kubernetes.io/component": "task",
        "app.kubernetes.io/managed-by": "psbarrier",
        "batch.kubernetes.io/controller-uid": "the-uid",
    }
    name = metadata.pop("name", f"digits-{index}-abcde")
    annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
    owners = [{"controller": True, "kind": "Job", "uid": "the-uid"}]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": own, "annotations": annotations, "ownerReferences": owners, **metadata},
        "spec": {"nodeName": "node-1", "containers": [{"name": "task", "env": [{"name": "PSBARRIER_SLOT"}]}]},
        "status": status,
    }


def container(**state: Any) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"name": "task", "state": state}]}


def test_status_answers_why_a_job_does_not_start(api: FakeApi, k8s: Any) -> None:
    """Each task with its Pod and the reason, in one table."""
    assert k8s("submit", str(FIRST)).exit_code == 0
    unschedulable = {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
        ],
    }
    oom = container(terminated={"exitCode": 137, "reason": "OOMKilled"}) | {"phase": "Failed"}
    for index, status in enumerate(
        (
            {"phase": "Running", "containerStatuses": [{"name": "task", "state": {"running": {}}}]},
            unschedulable,
            container(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"}),
            oom,
            container(terminated={"exitCode": 113, "reason": "Error"}) | {"phase": "Failed"},
        )
    ):
        api.put("pods", pod(index, status))
    event = {
        "kind": "Event",
        "metadata": {"name": "e1"},
        "type": "Warning",
        "reason": "FailedCreate",
        "message": "exceeded quota: pods=5",
        "involvedObject": {"kind": "Job", "name": "digits"},
    }
    api.put("events", event)
    done = k8s("status", str(FIRST))
    assert done.exit_code == 0, done.output
    for words in (
        "ps/0",
        "running",
        "no node: 0/3 nodes are available",
        "ImagePullBackOff: Back-off pulling image",
        "OOMKilled",
        "ended with 113, etcd refused",
        "no Pod",
        "the job waits for ps/1 (no node",
        "Job digits cannot make Pods: exceeded quota: pods=5",
        "kubectl port-forward service/digits-etcd",
    ):
        assert words in done.output, done.output
    now = json.loads(k8s("status", str(FIRST), "--json").output)
    assert [row["task"] for row in now["rows"] if row["trouble"]] == [
        "ps/1",
        "worker/0",
        "worker/1",
        "worker/2",
        "worker/3",
    ]


def test_nobody_waits_for_the_rest_of_an_elastic_role(api: FakeApi, k8s: Any, tmp_path: Path) -> None:
    """As long as its least is there; else for the first one that does not run."""
    file = tmp_path / "job.yaml"
    file.write_text(
        "name: ctr\nimage: a\ncommand: [a]\nroles: {worker: {replicas: {min: 2, max: 4}}}\netcd: {endpoints: ['e:1']}\n"
    )
    assert k8s("submit", str(file)).exit_code == 0
    waiting = container(waiting={"reason": "ErrImagePull"})
    for index, status in enumerate(({"phase": "Running"}, waiting, {"phase": "Running"})):
        made = pod(index, status)
        made["metadata"]["labels"]["app.kubernetes.io/instance"] = "ctr"
        api.put("pods", made)
    now = json.loads(k8s("status", str(file), "--json").output)
    assert [row["task"] for row in now["rows"] if row["trouble"]] == ["worker/1", "worker/3"]
    assert now["verdict"].startswith("all Pods run or come")
    made["status"] = waiting
    now = json.loads(k8s("status", str(file), "--json").output)
    assert now["verdict"] == "the job waits for worker/1 (ErrImagePull), and 2 more"


def test_the_newest_pod_of_a_task_counts(api: FakeApi, k8s: Any) -> None:
    """Not the one that it replaced, nor one that is going away."""
    assert k8s("submit", str(FIRST)).exit_code == 0
    running = {"phase": "Running"}
    api.put("pods", pod(0, {"phase": "Failed"}, name="a", creationTimestamp="2026-01-01T00:00:00Z"))
    api.put("pods", pod(0, running, name="b", creationTimestamp="2026-01-01T00:01:00Z"))
    late = "2026-01-01T00:02:00Z"
    api.put("pods", pod(0, running, name="c", creationTimestamp=late, deletionTimestamp=late))
    now = json.loads(k8s("status", str(FIRST), "--json").output)
    assert now["rows"][0]["pod"] == "b"


def test_status_of_nothing_says_so(k8s: Any) -> None:
    """With the exit code 1."""
    done = k8s("status", str(FIRST))
    assert done.exit_code == 1
    assert "it is not in the cluster: submit it" in done.output


def test_status_says_which_right_is_missing(api: FakeApi, k8s: Any) -> None:
    """Events are a help that one can do without; Pods are not."""
    assert k8s("submit", str(FIRST)).exit_code == 0
    api.denied = {("list", "events")}
    assert k8s("status", str(FIRST)).exit_code == 0
    api.denied = {("list", "pods")}
    done = k8s("status", str(FIRST))
    assert "the verb 'list' on the resource 'pods'" in done.output
    assert done.exit_code == 1


def test_status_shows_what_both_know(api: FakeApi, k8s: Any, etcd: EtcdServer, tmp_path: Path) -> None:
    """A Pod that runs is at the gate, and the table says whom it waits for and why that one is not there."""
    name = f"digits-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "job.yaml"
    file.write_text(
        f"name: {name}\nimage: a\ncommand: [a]\nroles: {{ps: 1, worker: 1}}\netcd: {{endpoints: ['{etcd.endpoint}']}}\n"
    )
    assert k8s("submit", str(file)).exit_code == 0
    labels = {"app.kubernetes.io/instance": name, "batch.kubernetes.io/controller-uid": "the-uid"}
    for index, status in enumerate(({"phase": "Running"}, container(waiting={"reason": "ErrImagePull"}))):
        made = pod(index, status)
        made["metadata"]["labels"] |= labels
        api.put("pods", made)
    assert "etcd knows no run 'the-uid' yet" in k8s("status", str(file)).output
    with psbarrier.join(etcd.endpoint, name, "ps", 0, replicas={"ps": 1, "worker": 1}, run="the-uid", address="h:1"):
        now = json.loads(k8s("status", str(file), "--json").output)
        assert [row["psbarrier"] for row in now["rows"]] == ["registered", "not registered"]
        assert now["verdict"] == "the job waits for worker/0 (ErrImagePull)"
        with psbarrier.join(etcd.endpoint, name, "worker", 0, run="the-uid", replicas={"ps": 1, "worker": 1}) as worker:
            worker.cluster()
            made["status"] = {"phase": "Running"}
            assert json.loads(k8s("status", str(file), "--json").output)["verdict"] == "the job runs"
        now = json.loads(k8s("status", str(file), "--json", "--watch").output)
        assert now["verdict"] == "the job is over: succeeded"


@pytest.mark.parametrize(("condition", "code"), [("Complete", 0), ("Failed", 110)])
def test_a_watch_ends_with_the_job_even_without_etcd(api: FakeApi, k8s: Any, condition: str, code: int) -> None:
    """By what Kubernetes says of the Job, whose Pods may be gone by then."""
    assert k8s("submit", str(FIRST)).exit_code == 0
    conditions = [{"type": condition, "status": "True", "reason": "PodFailurePolicy", "message": "exit code 110"}]
    api.objects["jobs.batch", "ads", "digits"]["status"] = {"conditions": conditions}
    done = k8s("status", str(FIRST), "--watch")
    assert done.exit_code == code
    assert "the job is over" in done.output
    assert ("Job digits has failed (PodFailurePolicy: exit code 110)" in done.output) == (code == 110)
