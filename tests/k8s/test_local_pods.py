"""The rendered manifests, run: their Pods train the digits example to its end, whatever happens to them on the way."""

from __future__ import annotations

import os
import random
import re
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

ALIKE: dict[str, Any] = {"ps": 1, "worker": 2}
FEW: dict[str, Any] = {"ps": 1, "worker": 1}
APART: dict[str, Any] = {"ps": 1, "worker": {"replicas": 1, "env": {"OWN": "1"}}}
KINDS = {"job": ("job", ALIKE), "jobs": ("job", APART), "pods": ("pods", FEW), "jobset": ("jobset", FEW)}


def rendered(etcd: EtcdServer, which: str, **more: Any) -> list[Pod]:
    """The Pods of a digits job of that kind, in a random order."""
    kind, roles = KINDS[which]
    job = JobTemplate(
        name=f"digits-{uuid.uuid4().hex[:8]}",
        image="digits:1",
        command=(sys.executable, str(EXAMPLE)),
        roles=roles,
        etcd={"endpoints": [etcd.endpoint]},  # type: ignore[arg-type]  # as in a file
        ttl=5,
        **more,
    )
    made = pods(manifests(job, kind))
    return random.Random(which).sample(made, len(made))


def begin(node: Node, made: list[Pod]) -> None:
    """Start them one after the other, as nodes become free."""
    for pod in made:
        node.start(pod)
        threading.Event().wait(random.Random(pod.name).uniform(0, 0.3))


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
    ("which", "dies"), [("job", "worker/1"), ("jobs", "ps/0"), ("pods", "ps/0"), ("jobset", "worker/0")]
)
def test_pods_train_to_the_end_whatever_happens_to_them(
    etcd: EtcdServer, tmp_path: Path, which: str, dies: str
) -> None:
    """Started in any order; one dies with all its processes, and is replaced; all are suspended and resumed.

    A Pod that replaces another takes its slot back, under another address; the run is the same, and the ps end with the job.
    """
    made = rendered(etcd, which, env={"DIGITS_EPOCHS": {"configMap": "digits", "key": "epochs"}}, grace=5)
    with Node(tmp_path) as node:
        node.configs["digits"] = {"epochs": "100000"}  # it has no end before it is suspended
        begin(node, made)
        first_epoch(node, made)
        assert all(node.ready(pod) for pod in made)
        victim = of_task(made, dies)
        node.kill(victim)
        made[made.index(victim)] = replaced = node.again(victim)
        assert not node.ready(replaced), "it waits for the slot"
        assert node.says(replaced, "cluster: epoch 2 "), node.everything
        assert task(replaced) == task(victim)

        for pod in made:
            node.stop(pod)
        assert [node.code(pod) for pod in made] == [143] * len(made), node.everything

        seen = max(map(int, re.findall(r"^epoch (\d+) of", node.everything, re.MULTILINE)))
        node.configs["digits"] = {"epochs": str(seen + 10)}
        again = [node.again(pod) for pod in made]
        assert [node.code(pod) for pod in again] == [0] * len(again), node.everything
        assert sorted(map(task, again)) == sorted(map(task, made))
        assert not any(node.ready(pod) for pod in again)
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
        assert codes == {"ps/0": 110, "worker/0": 110, "worker/1": 137}, node.everything
        again = node.again(victim)
        assert node.code(again) == 110, node.everything


@pytest.mark.parametrize("which", ["job", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pods", "jobset"))])
def test_pods_of_an_elastic_role_come_and_go(etcd: EtcdServer, tmp_path: Path, which: str) -> None:
    """Two of three start; one dies for good, and the other goes on; the third finds a node when all is over, and ends well."""
    done = tmp_path / "done"
    script = f'echo up; until [ -e "{done}" ]; do sleep 0.1; done; echo "trained by $PSBARRIER_ROLE"'
    job = JobTemplate(
        name=f"ctr-{uuid.uuid4().hex[:8]}",
        image="ctr:1",
        command=("sh", "-c", script),
        roles={"worker": Role({"min": 1, "max": 3})},  # type: ignore[arg-type]  # as in a file
        etcd=Etcd(endpoints=(etcd.endpoint,)),
        last_call=2,
        settling=0.5,
        ttl=5,
    )
    late, *first = pods(manifests(job, which))
    with Node(tmp_path) as node:
        begin(node, first)
        assert any(node.says(pod, "up\n") for pod in first), node.everything
        node.kill(first[0])
        assert node.says(first[1], "up\n"), node.everything
        done.touch()
        assert node.code(first[1]) == 0, node.everything
        assert node.code(node.start(late)) == 0, node.everything
        assert "trained" not in late.text


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
