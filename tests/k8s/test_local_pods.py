"""The rendered manifests, run: their Pods train the digits example to its end, whatever happens to them on the way."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.helpers import invoke
from digits_job import EXAMPLE, accuracy
from guarded import guarded_etcd

from k8s.kubelet import Node, Pod, expand, pods
from psbarrier.embedded import EtcdServer
from psbarrier.k8s import Etcd, JobTemplate, Role, manifests

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ALIKE: dict[str, Any] = {"ps": 2, "worker": 2}
APART: dict[str, Any] = {"ps": 2, "worker": {"replicas": 2, "env": {"OWN": "1"}}}
KINDS = {"job": ("job", ALIKE), "jobs": ("job", APART), "pods": ("pods", ALIKE), "jobset": ("jobset", ALIKE)}


def rendered(etcd: EtcdServer, which: str, **more: Any) -> list[Pod]:
    """The Pods of a digits job of that kind, in a random order."""
    kind, roles = KINDS[which]
    job = JobTemplate(
        name=f"digits-{uuid.uuid4().hex[:8]}",
        image="digits:1",
        command=(sys.executable, str(EXAMPLE)),
        roles=roles,
        etcd={"endpoints": [etcd.endpoint]},  # type: ignore[arg-type]  # as in a file
        ttl=2,
        **more,
    )
    made = pods(manifests(job, kind))
    return random.Random(which).sample(made, len(made))


def begin(node: Node, made: list[Pod]) -> None:
    """Start them one after the other, as nodes become free."""
    for pod in made:
        node.start(pod)
        threading.Event().wait(random.Random(pod.name).uniform(0, 0.5))


def task(pod: Pod) -> str:
    """Which task it has said that it is."""
    return next((line.split()[0] for line in pod.text.splitlines() if " pid " in line), "")


def of_task(made: list[Pod], name: str) -> Pod:
    (found,) = (pod for pod in made if task(pod) == name)
    return found


def first_epoch(node: Node, made: list[Pod]) -> None:
    """Wait until the job trains."""
    assert all(node.says(pod, "cluster: epoch 1 ") for pod in made), node.everything
    assert node.says(of_task(made, "worker/0"), "epoch 3 of"), node.everything


@pytest.mark.parametrize(
    "which", [pytest.param(which, marks=[pytest.mark.slow] if which != "job" else []) for which in KINDS]
)
def test_pods_train_to_the_end_whatever_happens_to_them(etcd: EtcdServer, tmp_path: Path, which: str) -> None:
    """Started in any order; one dies with all its processes, and is replaced; all are suspended and resumed.

    A Pod that replaces another takes its slot back, under another address; the run is the same, and the ps end with the job.
    """
    made = rendered(etcd, which, env={"DIGITS_EPOCHS": "30"}, grace=5)
    with Node(tmp_path) as node:
        begin(node, made)
        first_epoch(node, made)
        victim = of_task(made, random.Random(which).choice(["ps/1", "worker/1"]))
        node.kill(victim)
        made[made.index(victim)] = replaced = node.again(victim)
        assert node.says(replaced, "cluster: epoch 2 "), node.everything
        assert task(replaced) == task(victim)

        for pod in made:
            node.stop(pod)
        assert [node.code(pod) for pod in made] == [143] * len(made), node.everything

        again = [node.again(pod) for pod in made]
        assert [node.code(pod) for pod in again] == [0] * len(again), node.everything
        assert sorted(task(pod) for pod in again) == ["ps/0", "ps/1", "worker/0", "worker/1"]
        first = of_task(again, "worker/0").text
        assert "epoch 1 of" not in first, "it began anew, in another run"
        assert accuracy(first) >= 0.9


def test_a_crash_that_is_not_forgiven_ends_all_pods_by_110(etcd: EtcdServer, tmp_path: Path) -> None:
    """Which is the code that tells Kubernetes to give the Job up; the one that crashed keeps its own."""
    made = rendered(etcd, "job", env={"DIGITS_EPOCHS": "5000"})
    with Node(tmp_path) as node:
        begin(node, made)
        first_epoch(node, made)
        victim = of_task(made, "worker/1")
        pid = int(next(line.split()[2] for line in victim.text.splitlines() if " pid " in line))
        os.kill(pid, signal.SIGKILL)
        codes = {task(pod): node.code(pod) for pod in made}
        assert codes == {"ps/0": 110, "ps/1": 110, "worker/0": 110, "worker/1": 137}, node.everything
        again = node.again(victim)
        assert node.code(again) == 110, node.everything


def test_the_kubelet_expands_what_stands_before() -> None:
    """As Kubernetes documents it."""
    assert expand("$(A)-$(B)-$$(A)-$A", {"A": "1"}) == "1-$(B)-$(A)-$A"


def test_pods_log_in_with_what_their_secret_holds(tmp_path: Path) -> None:
    """The user of this job, made for it, over TLS, with the password and the authorities in files."""
    name = f"ctr-{uuid.uuid4().hex[:8]}"
    with guarded_etcd(tmp_path) as guarded:
        made = invoke(
            None, "etcd-user", name, "--generate-password-file", str(tmp_path / "pw"), "--secret", "s", *guarded.admin
        )
        assert made.exit_code == 0, made.output
        job = JobTemplate(
            name=name,
            image="ctr:1",
            command=("sh", "-c", "echo trained as $PSBARRIER_ROLE"),
            roles={"ps": Role(1), "worker": Role(1)},
            etcd=Etcd(endpoints=(f"https://{guarded.server.endpoint}",), secret="s"),
            success=("ps", "worker"),
        )
        with Node(tmp_path, secrets=[yaml.safe_load(made.stdout)]) as node:
            started = [node.start(pod) for pod in pods(manifests(job))]
            assert [node.code(pod) for pod in started] == [0, 0], node.everything
            assert [pod.text.strip() for pod in started] == ["trained as ps", "trained as worker"]
