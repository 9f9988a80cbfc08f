"""psbarrier local: a whole job on this machine, with an etcd of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import click
from attrs import evolve
from click.core import ParameterSource

from psbarrier.asking import TTL
from psbarrier.cli import exits
from psbarrier.cli.funnel import Funnel
from psbarrier.cli.launch import Launch
from psbarrier.cli.options import Etcd, emit_options, etcd_options, option, policy_of, policy_options
from psbarrier.cli.outcome import Outcome
from psbarrier.cli.plan import GRACE, Plan
from psbarrier.cli.run import SETTINGS
from psbarrier.cli.screen import Screen
from psbarrier.cli.signals import Received, Signals
from psbarrier.cli.slots import Attendance, Slot
from psbarrier.cli.surroundings import Surroundings
from psbarrier.cli.workspace import Workspace
from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.errors import InvalidArgumentError, StoreError
from psbarrier.protocol.handover import VARIABLE
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import unpack_state
from psbarrier.spec import Replicas, Task
from psbarrier.state import JobState
from psbarrier.store.base import Range, Store

logger = logging.getLogger("psbarrier")


@click.command(context_settings=SETTINGS, short_help="Run a whole job on this machine.")
@click.option("--ps", type=click.IntRange(1), help="How many parameter servers.")
@click.option("--worker", type=click.IntRange(1), help="How many workers.")
@click.option("--replicas", metavar="ROLE=N,…", help="The same for any roles.")
@click.option("--job", default="local", show_default=True, metavar="NAME", help="The job's name.")
@emit_options
@policy_options
@option("--ttl", type=int, default=TTL, show_default=True, help="Seconds of silence after which a task is given up.")
@click.option("--grace", type=float, default=GRACE, show_default=True, help="Seconds between SIGTERM and SIGKILL.")
@etcd_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def local(
    context: click.Context, /, etcd: Etcd, ps: int | None, worker: int | None, replicas: str | None, **given: Any
) -> None:
    """Run COMMAND once for each task of a job, here, each with what `psbarrier run` would give it.

    Starts an etcd for it, or uses the one that --endpoints names. Every line of output begins with its task. A command
    that crashes is started again while --max-restarts allows it. When the job is over, whoever still runs is ended; the
    exit code is 0 after a success, else that of the command that failed. Ctrl-C ends the job, twice at once.
    """
    counts = _replicas(ps, worker, replicas)
    plan = Plan(role=counts.roles[0], index=None, replicas=counts, policy=policy_of(given), run=_fresh_run(), **given)
    for role in counts.roles:
        evolve(plan, role=role).check()
    own = context.get_parameter_source("endpoints") is not ParameterSource.COMMANDLINE
    context.exit(launch(plan, None if own else etcd, context.obj))


def _replicas(ps: int | None, worker: int | None, text: str | None) -> Replicas:
    counts = dict(Replicas.of(text).counts) if text is not None else {}
    for role, count in (("ps", ps), ("worker", worker)):
        if count is not None and counts.setdefault(role, count) != count:
            raise InvalidArgumentError(f"--replicas and --{role} say different numbers for {role!r}: give one of them")
    if not counts:
        raise InvalidArgumentError("no task is asked for: pass for example --ps 1 --worker 2")
    return Replicas.of(counts)


def _fresh_run() -> str:
    return f"local-{int(time.time())}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def _etcd(named: Etcd | None) -> Iterator[Etcd]:
    if named is not None:
        yield named
        return
    with EtcdServer() as server:
        yield Etcd(server.endpoint)


def launch(plan: Plan, named: Etcd | None, screen: Screen) -> int:
    """Run the whole job to its end; the exit code. Without `named`, over an etcd of its own."""
    began = time.monotonic()
    os.environ.pop(VARIABLE, None)
    queue: SimpleQueue[Any] = SimpleQueue()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals(queue))
        with signals.raising():
            etcd = stack.enter_context(_etcd(named))
            store = stack.enter_context(etcd.open())
            workspace = stack.enter_context(Workspace())
        funnel = stack.enter_context(Funnel(screen, lambda: queue.put(Received(signal.SIGPIPE))))
        around = Surroundings(store, etcd.environment(), workspace, screen, funnel)
        attendance = Attendance(_slots(plan, around), queue)
        outcomes = attendance.run()
        state = _state(store, plan)
    return _tell(plan, state, outcomes, attendance.signals, time.monotonic() - began)


def _slots(plan: Plan, around: Surroundings) -> list[Slot]:
    tasks = plan.replicas.tasks()
    return [_slot(plan, around, task, port) for task, port in zip(tasks, free_ports(len(tasks)), strict=True)]


def _slot(plan: Plan, around: Surroundings, task: Task, port: int) -> Slot:
    def launch_on(port: int) -> Launch:
        mine = evolve(plan, role=task.role, index=task.index, address=f"127.0.0.1:{port}")
        return Launch(mine, around)

    return Slot(launch_on(port), lambda: launch_on(free_ports(1)[0]))


def _state(store: Store, plan: Plan) -> JobState:
    """How the job ended, as etcd knows it; running when it does not."""
    assert plan.run is not None
    key = JobKeys(store.prefix, plan.job).run(plan.run).state
    try:
        found = store.read(Range(key), until=store.clock.now() + store.request_timeout).one(0)
        return unpack_state(found.key, found.value) if found else JobState()
    except StoreError as error:
        logger.warning("how job %r ended could not be read: %s", plan.job, error)
        return JobState()


def _flush() -> None:
    """Write out what is left to say; when nobody reads it any more, not even the interpreter's end shall try again."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _tell(plan: Plan, state: JobState, outcomes: list[Outcome], signals: list[int], took: float) -> int:
    """Say in one line how the job ended; the exit code."""
    _flush()
    if state.phase == "succeeded":
        logger.info("job %r has succeeded after %.1f s", plan.job, took)
        return 0
    if state.phase == "failed":
        code = exits.passed_on(state.exit_code) or 1
        logger.error(
            "job %r has failed after %.1f s with code %d, by %s: %s", plan.job, took, code, state.by, state.reason
        )
        return code
    if signals:
        logger.error("job %r was ended after %.1f s by %s", plan.job, took, signal.Signals(signals[0]).name)
        return 128 + signals[0]
    worst = next((outcome for outcome in outcomes if outcome.code), None)
    logger.error("job %r ended after %.1f s without a result%s", plan.job, took, f": {worst.said}" if worst else "")
    return worst.code if worst else 1
