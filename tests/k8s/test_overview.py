"""psbarrier k8s status, over HTTP: why a job does not start, what both Kubernetes and psbarrier know, and when it is over."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

import psbarrier
from k8s.goldens import FIRST
from psbarrier.embedded import EtcdServer

pytest.importorskip("kubernetes", reason="the package kubernetes is not installed: tox -e k8s has it")
pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: tox -e k8s has it")

from k8s.fake_api import FakeApi


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
