"""psbarrier run: hold a task of a job, and run a command as it."""

from __future__ import annotations

import os
from queue import SimpleQueue
from typing import Any

import click

from psbarrier.asking import JOIN_TIMEOUT, TTL
from psbarrier.cli.launch import Launch
from psbarrier.cli.options import Etcd, emit_options, etcd_options, option, policy_of, policy_options
from psbarrier.cli.plan import GATE_TIMEOUT, GRACE, Plan
from psbarrier.cli.screen import Screen
from psbarrier.cli.signals import Signals
from psbarrier.cli.slots import Attendance, Slot
from psbarrier.cli.surroundings import Surroundings
from psbarrier.cli.workspace import Workspace
from psbarrier.errors import InvalidArgumentError
from psbarrier.protocol.handover import VARIABLE
from psbarrier.settings import task_of_slot
from psbarrier.spec import Replicas

SETTINGS = {"allow_interspersed_args": False}  # what follows the command's name is the command's


@click.command(context_settings=SETTINGS, short_help="Hold a task of a job, and run a command as it.")
@option("--job", required=True, metavar="NAME", help="The job.")
@option("--role", metavar="NAME", help="This process's role.")
@option("--index", type=click.IntRange(0), help="Its index in the role; without one, the lowest free slot.")
@option(
    "--slot", type=click.IntRange(0), help="In place of both: its number over all roles, in the order of their names."
)
@option(
    "--replicas",
    required=True,
    metavar="ROLE=N,…",
    help="How many tasks each role has: ps=2,worker=4; MIN:MAX if they may come and go.",
)
@option("--run", "run_name", metavar="NAME", help="The run; without one, the job's current run or a new one.")
@option("--address", metavar="HOST:PORT", help="Where the others reach the command.")
@option("--ttl", type=int, default=TTL, show_default=True, help="Seconds of silence after which the task is given up.")
@option(
    "--takeover", type=click.Choice(["wait", "force"]), default="wait", show_default=True, help="About another holder."
)
@policy_options
@option("--join-timeout", type=float, default=JOIN_TIMEOUT, show_default=True, help="Seconds to take the task.")
@click.option(
    "--gate-timeout", type=float, default=GATE_TIMEOUT, show_default=True, help="Seconds to wait for the others."
)
@click.option("--resolve", is_flag=True, help="Then wait until the names in all addresses can be resolved, too.")
@click.option(
    "--ready-file",
    metavar="FILE",
    help="A file that is there while COMMAND runs, and only then: for a readiness probe.",
)
@click.option("--grace", type=float, default=GRACE, show_default=True, help="Seconds between SIGTERM and SIGKILL.")
@emit_options
@etcd_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(
    screen: Screen,
    /,
    etcd: Etcd,
    run_name: str | None,
    replicas: str,
    role: str | None,
    index: int | None,
    slot: int | None,
    **given: Any,
) -> None:
    """Join a job as one of its tasks, wait until all are there, run COMMAND, and report how it ended.

    COMMAND finds who it is and who the others are in PSBARRIER_… variables, in the JSON file that
    PSBARRIER_CLUSTER_FILE names, and in what --emit adds. psbarrier.join() in it attaches to this task. It is ended when
    the job is over.

    \b
    Exit codes: COMMAND's own (110 to 119 become 1), and
      0  after success, also when COMMAND was ended because the job had succeeded
      2  usage                     112  etcd cannot be reached
    110  the job failed elsewhere  113  etcd refuses
    111  a deadline passed         114  the task is lost, or another process has it
    """
    policy, counts = policy_of(given), Replicas.of(replicas)
    if (task := task_of_slot(slot, role, index, counts)) is not None:
        role, index = task.role, task.index
    if role is None:
        raise InvalidArgumentError("no role is given: pass --role, or --slot, or set PSBARRIER_ROLE or PSBARRIER_SLOT")
    plan = Plan(run=run_name, role=role, index=index, replicas=counts, policy=policy, **given)
    plan.check()
    raise click.exceptions.Exit(launch(plan, etcd, screen))


def launch(plan: Plan, etcd: Etcd, screen: Screen) -> int:
    """Run the plan to its end; the exit code."""
    os.environ.pop(VARIABLE, None)  # a task of our own, even below another `psbarrier run`
    queue: SimpleQueue[Any] = SimpleQueue()
    with etcd.open() as store, Signals(queue) as signals:
        with signals.raising():
            workspace = Workspace()
        with workspace:
            one = Launch(plan, Surroundings(store, etcd.environment(), workspace, screen, outlived=True))
            with signals.raising():
                one.join()
            (outcome,) = Attendance([Slot(one)], queue).run(joined=True)
    return outcome.code
