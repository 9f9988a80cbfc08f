"""JAX finds its cluster in what psbarrier emits, and a program of several processes outlives the loss of any of them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli.helpers import MAIN, clean, unique

from frameworks.crew import Crew, local, program
from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.spec import ClusterSpec, Task

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(1300)]


def losses(text: str) -> dict[int, float]:
    """What the example says of each step."""
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+): loss (\S+)", text)}


def test_two_processes_add_up_what_each_has() -> None:
    """The example learns what neither process could from its own part, and only one of them prints it."""
    said = local("worker=2", "jax", *program("jax_psum.py"))
    assert {f"process {index} of 2" in said for index in range(2)} == {True}, said
    found = losses(said)
    assert list(found) == list(range(1, 51)), said
    assert found[50] < 0.01 * found[1]


def test_initialize_without_arguments_takes_our_variables_before_any_other_scheduler_s() -> None:
    """Two processes, in what looks like a step of Slurm and a Pod as well, over IPv6 where the machine has it."""
    code = """if True:
        import jax, psbarrier.emit.jax
        from jax._src.distributed import global_state
        jax.distributed.initialize(initialization_timeout=120)
        print(global_state.coordinator_address, jax.process_index(), jax.process_count(), jax.device_count())
    """
    host = "[::1]" if Path("/proc/net/if_inet6").exists() else "127.0.0.1"
    coordinator, other = (f"{host}:{port}" for port in free_ports(2))
    spec = ClusterSpec.from_addresses({"chief": [coordinator], "worker": [other]})
    around = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "a,b,c",
        "SLURM_NTASKS": "3",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "2",
        "JAX_COORDINATOR_PORT": "1",
    }
    said: dict[int, subprocess.CompletedProcess[str]] = {}

    def run(number: int, task: Task) -> None:
        environment = {**clean(None), **around, **spec.env("jax", task)}
        said[number] = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    threads = [threading.Thread(target=run, args=each) for each in enumerate([Task("chief", 0), Task("worker", 0)])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        assert said[number].stdout.split() == [coordinator, str(number), "2", "2"], said[number].stderr


def test_without_our_variables_jax_is_as_it_was() -> None:
    """The import alone changes nothing for a program that psbarrier did not start."""
    code = """if True:
        import jax, psbarrier.emit.jax
        try:
            jax.distributed.initialize()
        except ValueError as error:
            print(error)
    """
    said = subprocess.run([sys.executable, "-c", code], env=clean(None), capture_output=True, text=True)
    assert said.stdout == "coordinator_address should be defined.\n", said.stderr


@pytest.mark.parametrize("victim", ["worker/0", "worker/1"])
def test_when_a_process_is_lost_all_start_again_and_go_on(tmp_path: Path, etcd: EtcdServer, victim: str) -> None:
    """With the second epoch's spec, from the checkpoint; worker/0 is JAX's coordinator."""
    job, checkpoint = unique("jax"), tmp_path / "checkpoint.npy"

    def argv(task: str) -> tuple[str, ...]:
        options = ("--job", job, "--run", "one", "--replicas", "worker=2", "--max-restarts", "3")
        command = program("jax_psum.py", str(checkpoint))
        return *MAIN, "run", *options, "--emit", "jax", "--on-epoch", "restart", "--", *command

    with Crew(tmp_path, etcd, "worker=2", argv, STEPS="1000") as crew:
        crew.await_words("worker/0", r"step 5:")
        crew.kill(victim)
        crew.start(victim)
        started = crew.finish()
        for task in crew.tasks:
            assert len(re.findall(r"process \d of 2, pid", "".join(crew.texts(task)))) >= 2, f"{task} was not restarted"
        if victim == "worker/1":  # without its coordinator, JAX itself ends a process
            assert started == {"worker/0": 1, "worker/1": 2}
        said = "".join(crew.texts("worker/0"))
        resumed = int(re.findall(r"going on after step (\d+)", said)[-1])
        assert 5 <= resumed < 1000
        assert losses(said)[resumed + 1] < losses(said)[1]
        assert losses(said)[1000] < 0.001
