"""psbarrier abort: end a job as failed, from outside."""

from __future__ import annotations

import getpass
import os
import socket
import time

import click

from psbarrier.cli import runs
from psbarrier.cli.options import Etcd, etcd_options, option
from psbarrier.errors import InvalidArgumentError, StoreUnavailableError
from psbarrier.protocol.codec import one_line
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import unpack_state
from psbarrier.protocol.transactions import fail
from psbarrier.state import JobState
from psbarrier.store.base import Store, TxnReply


@click.command(short_help="End a job as failed.")
@click.argument("job")
@option("--run", "run_name", metavar="NAME", help="The run; without one, the job's only running one.")
@click.option("--reason", default="aborted by hand", show_default=True, help="What all its tasks are told.")
@etcd_options
def abort(etcd: Etcd, job: str, run_name: str | None, reason: str) -> None:
    """End JOB as failed: every task hears of it, and every `psbarrier run` ends its command.

    Says so, and exits with 0, when there was nothing to abort.
    """
    keys = etcd.job(job)
    with etcd.open() as store:
        click.echo(end(store, keys, run_name, reason))


def end(store: Store, job: JobKeys, name: str | None, reason: str) -> str:
    """Abort the run; what became of it, for people.

    Raises InvalidArgumentError when several runs are running and none is named.
    """
    found = runs.find(store, job, name)
    running = found.running
    if len(running) > 1:
        names = ", ".join(run.name for run in running)
        raise InvalidArgumentError(f"job {job.job!r} has {len(running)} running runs, {names}: name one with --run")
    if not running:
        last = found.meant()
        why = (
            f"run {last.name!r} is over: it has {last.state}"
            if last
            else "it has no such run"
            if name
            else "it has no run"
        )
        return f"nothing to abort in job {job.job!r}: {why}"
    run = running[0]
    state = JobState("failed", f"psbarrier abort by {_who()}", " ".join(one_line(reason).split()), 1, time.time())
    reply = _settle(store, run, state)
    if reply.succeeded:
        return f"job {job.job!r} is aborted (run {run.name!r})"
    decided = reply.one(0)
    if decided is None:
        return f"nothing to abort in job {job.job!r}: run {run.name!r} is gone"
    ended = unpack_state(decided.key, decided.value)
    if ended == state:
        return f"job {job.job!r} is aborted (run {run.name!r})"
    return f"nothing to abort in job {job.job!r}: run {run.name!r} has {ended}"


def _settle(store: Store, run: runs.Run, state: JobState) -> TxnReply:
    """Repeated once: a first try that was applied shows as our own state."""
    txn = fail(run.keys, run.config, state)
    try:
        return store.txn(txn, until=store.clock.now() + store.request_timeout)
    except StoreUnavailableError:
        return store.txn(txn, until=store.clock.now() + store.request_timeout)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
