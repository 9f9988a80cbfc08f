"""TensorFlow reads what psbarrier emits, trains with it, and gets over the loss of a worker and of a ps."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.helpers import MAIN, clean, unique
from helpers import eventually

from frameworks.crew import PATIENCE, Crew, local, program
from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(1300)]

REPLICAS = "chief=1,ps=2,worker=2"

# What TensorFlow makes of each TF_CONFIG in a list: task and cluster, and why a strategy would refuse them.
RESOLVE = """
import json, os, sys
import tensorflow as tf
from tensorflow.python.distribute import multi_worker_util
found = []
for config in json.load(sys.stdin):
    os.environ["TF_CONFIG"] = config
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    me, cluster = (resolver.task_type, resolver.task_id), resolver.cluster_spec()
    tasks = {job: {index: cluster.task_address(job, index) for index in cluster.task_indices(job)} for job in cluster.jobs}
    try:
        refused = multi_worker_util._validate_cluster_spec(cluster, *me)
        if set(cluster.jobs) == {"chief", "ps"}:  # else it would connect to them
            tf.distribute.ParameterServerStrategy(resolver)
    except ValueError as error:
        refused = str(error)
    found.append([[*me, tasks], refused])
json.dump(found, sys.stdout)
"""


def resolved(configs: list[str]) -> Any:
    """TensorFlow's answers."""
    said = subprocess.run(
        [sys.executable, "-c", RESOLVE], input=json.dumps(configs), env=clean(None), capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def losses(text: str) -> dict[int, float]:
    """What the chief says of each round."""
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+): loss (\S+)", text)}


def accuracy(text: str) -> float:
    """What the chief says in the end."""
    (found,) = re.findall(r"test accuracy: (\S+)", text)
    return float(found)


def test_tensorflow_finds_what_the_spec_says_and_refuses_what_is_refused_here() -> None:
    """Its resolver, for each task in both forms; its strategies pass the full form, and refuse, written by hand, each
    cluster that psbarrier refuses, so that none is refused which TensorFlow would take."""
    spec = ClusterSpec.from_addresses(
        {
            "chief": ["[fd00::1]:2222"],
            "evaluator": ["e:1"],
            "ps": ["p-0:1", "p-1:1"],
            "worker": ["w-0:1", "w-1:1", "w-2:1"],
        }
    )
    everybody = {role: dict(enumerate(spec.addresses(role))) for role in ("chief", "ps", "worker")}
    full, sparse = [], []
    for member in spec.members:
        task, own = member.task, {member.task.index: member.address}
        seen = {"ps": {"ps": own}, "worker": {"ps": everybody["ps"], "worker": own}}.get(task.role, everybody)
        full.append((spec.env("tensorflow", task)["TF_CONFIG"], [task.role, task.index, everybody]))
        sparse.append((spec.env("tensorflow-sparse", task)["TF_CONFIG"], [task.role, task.index, seen]))
    old = ClusterSpec.from_addresses({"master": ["m:1"], "worker": ["w:1"]})
    cluster = {"chief": {0: "m:1"}, "worker": {0: "w:1"}}
    full.append((old.env("tensorflow", Task("master", 0))["TF_CONFIG"], ["chief", 0, cluster]))
    wrong = {
        "at most one 'chief'": {"chief": ["a:1", "b:1"], "worker": ["c:1"]},
        "at most one 'evaluator'": {"evaluator": ["a:1", "b:1"], "worker": ["c:1"]},
        "Disallowed task type": {"ps": ["a:1"], "trainer": ["b:1"]},
        "at least one worker": {"chief": ["a:1"], "ps": ["b:1"]},
    }
    by_hand = [json.dumps({"cluster": each, "task": {"type": min(each), "index": 0}}) for each in wrong.values()]

    answers = resolved([config for config, _ in full + sparse] + by_hand)
    assert [found for found, _ in answers[: -len(wrong)]] == json.loads(json.dumps([said for _, said in full + sparse]))
    assert {refused for _, refused in answers[: len(full)]} == {None}
    for (_, refused), (reason, addresses) in zip(answers[-len(wrong) :], wrong.items(), strict=True):
        assert reason in refused
        with pytest.raises(InvalidArgumentError):
            ClusterSpec.from_addresses(addresses).env("tensorflow", Task(min(addresses), 0))


def test_the_example_trains_under_psbarrier_local(tmp_path: Path) -> None:
    """Both workers take part, and the ps and workers, which serve for ever, end when the chief has finished."""
    said = local(REPLICAS, "tensorflow", *program("tensorflow_ps.py"))
    found = losses(said)
    assert list(found) == list(range(20, 401, 20)), said
    assert found[400] < 0.3 * found[20]
    assert accuracy(said) > 0.9
    for worker in range(2):
        assert f"[worker/{worker}] this worker has had 20 batches" in said
    assert said.count("ends, for job 'local' has succeeded") == 4


def test_the_example_trains_when_each_process_is_started_by_hand(tmp_path: Path, etcd: EtcdServer) -> None:
    """With psbarrier as a library, over IPv6 where the machine has it; every process ends by itself, well."""
    host = "[::1]" if Path("/proc/net/if_inet6").exists() else "127.0.0.1"
    settings = {"PSBARRIER_JOB": unique("tf"), "PSBARRIER_REPLICAS": REPLICAS, "STEPS": "200"}
    addresses = dict(zip(("chief/0", "ps/0", "ps/1", "worker/0", "worker/1"), free_ports(5), strict=True))

    def argv(task: str) -> tuple[str, ...]:
        return "env", f"PSBARRIER_ADDRESS={host}:{addresses[task]}", *program("tensorflow_ps.py")

    with Crew(tmp_path, etcd, REPLICAS, argv, **settings) as crew:
        assert set(crew.finish().values()) == {1}
        (said,) = crew.texts("chief/0")
        assert accuracy(said) > 0.9
        assert losses(said)[200] < 0.5 * losses(said)[20]


def running(job: str, form: str, checkpoints: Path) -> Callable[[str], tuple[str, ...]]:
    """Each task under `psbarrier run`, at an address that it keeps."""
    tasks = ("chief/0", "ps/0", "ps/1", "worker/0", "worker/1")
    ports = dict(zip(tasks, free_ports(len(tasks)), strict=True))

    def argv(task: str) -> tuple[str, ...]:
        options = ("--job", job, "--run", "one", "--replicas", REPLICAS, "--max-restarts", "3", "--emit", form)
        address = ("--address", f"127.0.0.1:{ports[task]}")
        return *MAIN, "run", *options, *address, "--", *program("tensorflow_ps.py", str(checkpoints))

    return argv


def test_a_killed_worker_comes_back_and_takes_part_again(tmp_path: Path, etcd: EtcdServer) -> None:
    """At its old address, with the sparse form; nobody else is started again, and the training goes on all the while."""
    argv = running(unique("tf"), "tensorflow-sparse", tmp_path / "checkpoints")
    with Crew(tmp_path, etcd, REPLICAS, argv, STEPS="1000") as crew:
        crew.await_words("worker/1", "has had 20 batches")
        crew.kill("worker/1")
        crew.await_words("chief/0", "Worker /job:worker/replica:0/task:1 failed")
        after = max(losses(crew.texts("chief/0")[0]))
        assert eventually(lambda: max(losses(crew.texts("chief/0")[0])) > after + 20, PATIENCE)
        with crew.frozen("chief/0"):  # so that the training is not over too soon, on whatever machine
            crew.start("worker/1")
            crew.await_words("worker/1", "worker/1 serves")
        crew.await_words("worker/1", "has had 20 batches")
        assert crew.finish() == {"chief/0": 1, "ps/0": 1, "ps/1": 1, "worker/0": 1, "worker/1": 2}
        assert accuracy(crew.texts("chief/0")[0]) > 0.9


def test_when_a_ps_is_killed_the_chief_goes_on_from_the_checkpoint(tmp_path: Path, etcd: EtcdServer) -> None:
    """It fails, is started again, and waits until the ps is back; the workers and the other ps stay."""
    argv = running(unique("tf"), "tensorflow", tmp_path / "checkpoints")
    with Crew(tmp_path, etcd, REPLICAS, argv, STEPS="400") as crew:
        crew.await_words("chief/0", "step 60:")
        crew.kill("ps/0")
        crew.start("ps/0")
        assert crew.finish() == {"chief/0": 2, "ps/0": 2, "ps/1": 1, "worker/0": 1, "worker/1": 1}
        before, again = crew.texts("chief/0")
        resumed = int(re.findall(r"going on after step (\d+)", again)[0])
        assert 60 <= resumed <= max(losses(before)) < 400
        assert min(losses(again)) == resumed + 20
        assert losses(again)[resumed + 20] < 0.7 * losses(before)[20]
        assert accuracy(again) > 0.9
