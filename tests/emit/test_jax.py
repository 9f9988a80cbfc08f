"""What JAX's processes are told: one coordinator, and numbers from 0 on without a gap."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from psbarrier.cli.main import cli
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task


def spec_of(**counts: int) -> ClusterSpec:
    """With each task at its own name."""
    return ClusterSpec.from_addresses({role: [f"{role}-{index}:1" for index in range(counts[role])] for role in counts})


def numbers(spec: ClusterSpec) -> dict[str, int]:
    """Each task's process id; they all name the same coordinator and count."""
    said = {str(member.task): spec.env("jax", member.task) for member in spec.members}
    assert len({(each["JAX_COORDINATOR_ADDRESS"], each["JAX_NUM_PROCESSES"]) for each in said.values()}) == 1
    return {task: int(each["JAX_PROCESS_ID"]) for task, each in said.items()}


def test_the_first_worker_is_process_0() -> None:
    """The others follow by index, also where text would sort them differently."""
    spec = spec_of(worker=12)
    assert numbers(spec) == {f"worker/{index}": index for index in range(12)}
    assert spec.env("jax", Task("worker", 10)) == {
        "JAX_COORDINATOR_ADDRESS": "worker-0:1",
        "JAX_NUM_PROCESSES": "12",
        "JAX_PROCESS_ID": "10",
    }


@pytest.mark.parametrize("role", ["worker", "actor"])
def test_a_chief_is_process_0(role: str) -> None:
    """Whatever the other role is called, and wherever its name would sort."""
    spec = spec_of(chief=1, **{role: 2})
    assert numbers(spec) == {"chief/0": 0, f"{role}/0": 1, f"{role}/1": 2}
    assert spec.env("jax", Task(role, 1))["JAX_COORDINATOR_ADDRESS"] == "chief-0:1"


def test_an_ipv6_coordinator_keeps_its_brackets() -> None:
    """JAX takes the port from behind the last colon."""
    spec = ClusterSpec.from_addresses({"worker": ["[fd00::7]:1234", "h:1"]})
    assert spec.env("jax", Task("worker", 1))["JAX_COORDINATOR_ADDRESS"] == "[fd00::7]:1234"


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"chief": 2, "worker": 1}, "JAX takes one chief, its process 0, and this cluster has 2"),
        ({"ps": 2, "worker": 4}, "JAX has no ps"),
        ({"ps": 2}, "JAX has no ps"),
        ({"evaluator": 1, "worker": 4}, "JAX has no evaluator"),
        ({"actor": 1, "learner": 4}, "has the roles actor, learner: give them one role"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_roles_that_are_no_jax_program_are_refused(counts: dict[str, int], why: str) -> None:
    """With what to do, before any process is started."""
    spec = spec_of(**counts)
    with pytest.raises(InvalidArgumentError, match=why):
        spec.env("jax", spec.members[0].task)


def test_the_command_line_prints_them_for_a_shell() -> None:
    """Quoted, for brackets mean something to it."""
    args = ["spec", "--static", "worker=[::1]:1,b:2", "--format", "jax", "--task", "worker:1"]
    said = CliRunner().invoke(cli, args)
    assert said.output.splitlines() == [
        "export JAX_COORDINATOR_ADDRESS='[::1]:1'",
        "export JAX_NUM_PROCESSES=2",
        "export JAX_PROCESS_ID=1",
    ]


def test_without_jax_the_variables_are_made_all_the_same() -> None:
    """Whoever starts the processes need not have JAX, nor load it when it is there."""
    code = """if True:
        import sys
        sys.modules["jax"] = None  # as if it were not installed
        from psbarrier import ClusterSpec, Task
        spec = ClusterSpec.from_addresses({"worker": ["a:1"]})
        assert spec.env("jax", Task("worker", 0))["JAX_PROCESS_ID"] == "0"
        try:
            import psbarrier.emit.jax
        except ImportError as error:
            print("no JAX:", error)
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.startswith("no JAX:"), said.stderr
