"""psbarrier wait: until etcd answers, a role is there, or a job has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from attrs import frozen

from psbarrier.arguments import seconds
from psbarrier.cli import runs
from psbarrier.cli.options import Etcd, etcd_options, option
from psbarrier.cli.runs import Run
from psbarrier.cli.screen import Screen
from psbarrier.errors import (
    GateTimeoutError,
    InvalidArgumentError,
    JobTimeoutError,
    PsBarrierError,
    StoreUnavailableError,
)
from psbarrier.flows.effects import Await, Change, Flow, Follow, Progress, Tell, Unfollow, describe_missing, settle
from psbarrier.flows.patience import Patience
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import Config
from psbarrier.protocol.transactions import whole
from psbarrier.protocol.views import ControlView, Roster, View
from psbarrier.session import Session
from psbarrier.spec import Task, check_name
from psbarrier.state import JobState
from psbarrier.store.base import Store, Txn

if TYPE_CHECKING:
    from psbarrier.store.etcd import EtcdStore

TIMEOUT = 600.0


@click.command(short_help="Wait for etcd, for a role, or for a job's success.")
@click.argument("job", envvar="PSBARRIER_JOB", required=False)
@click.option("--for", "what", required=True, metavar="store|role=NAME|succeeded", help="What to wait for.")
@option("--run", "run_name", metavar="NAME", help="The run; without one, the job's current one.")
@click.option("--timeout", type=float, default=TIMEOUT, show_default=True, metavar="SECONDS", help="How long.")
@etcd_options
@click.pass_obj
def wait(screen: Screen, /, etcd: Etcd, job: str | None, what: str, run_name: str | None, timeout: float) -> None:
    """Wait, without polling, until

    \b
        store       etcd answers
        role=NAME   all tasks of that role are registered in JOB
        succeeded   JOB has succeeded; exits with 110 when it has failed

    Exits with 111 when --timeout has passed, 112 when etcd did not answer until then. An init container may wait for the
    store, but not for a role whose Pods wait for this one.
    """
    seconds("timeout", timeout)
    kind, equals, role = what.partition("=")
    if (kind, equals) not in (("store", ""), ("role", "="), ("succeeded", "")):
        raise InvalidArgumentError(f"--for {what!r} is none of store, role=NAME and succeeded")
    if kind == "role":
        check_name("role", role)
    if kind != "store" and job is None:
        raise InvalidArgumentError(f"--for {what} needs to know the job: name it")
    keys = etcd.job(job) if job is not None else None
    with etcd.open() as store:
        if kind == "store" or keys is None:
            until_it_answers(store, timeout, screen.tell)
        else:
            until_it_is_so(store, Wanted(keys, run_name, role or None), timeout, screen.tell)


def until_it_answers(store: EtcdStore, timeout: float, tell: Callable[[Progress], None]) -> None:
    """Return once etcd has answered; StoreUnavailableError after `timeout` seconds, StoreRefusedError at once."""
    patience = Patience(store.clock.now, store.clock.now() + timeout)
    while True:
        try:
            store.probe(until=max(patience.next(), store.clock.now() + 0.05))
            return
        except StoreUnavailableError as error:
            if patience.over():
                raise
            if patience.due():
                tell(Progress("waiting for etcd", 0, 1, dict(error.reasons), patience.waited(), patience.left()))


@frozen
class Wanted:
    """A job, the run of it (None: the current one), and the role that is to be there (None: success is to come)."""

    job: JobKeys
    run: str | None
    role: str | None

    def __str__(self) -> str:
        return f"role {self.role!r} of job {self.job.job!r}" if self.role else f"the success of job {self.job.job!r}"


def until_it_is_so(store: Store, wanted: Wanted, timeout: float, tell: Callable[[Progress], None]) -> None:
    """Return once it is so.

    Raises GateTimeoutError or JobTimeoutError after `timeout` seconds, JobFailedError when the job has failed.
    """
    session = Session(store, on_progress=tell)
    try:
        clock = store.clock.now
        session.run(waiting(wanted, clock, clock() + timeout))
    finally:
        session.close()


def waiting(wanted: Wanted, clock: Callable[[], float], until: float) -> Flow[None]:
    """Wait for what is wanted, over one run after the other if none is named."""
    patience = Patience(clock, until)
    while True:
        run = yield from _find(wanted, patience, clock, until)
        if (yield from _attend(wanted, run, patience, clock, until)):
            return


def _find(wanted: Wanted, patience: Patience, clock: Callable[[], float], until: float) -> Flow[Run]:
    """The run to look at, once there is one. Who waits for a role does not mean a run that is over."""
    while True:
        found: runs.Runs = yield from runs.finding(wanted.job, wanted.run, clock, until)
        run = found.meant()
        if run is not None and not (run.state.over and wanted.role and wanted.run is None):
            return run
        what = f"waiting for job {wanted.job.job!r} to start"
        if patience.over():
            raise GateTimeoutError(
                f"job {wanted.job.job!r} had no running run after {patience.waited():.1f} s", missing={}
            )
        if patience.due():
            yield Tell(Progress(what, 0, 1, {}, patience.waited(), patience.left()))
        yield Change(wanted.job.root, found.revision, patience.next())


def _attend(wanted: Wanted, run: Run, patience: Patience, clock: Callable[[], float], until: float) -> Flow[bool]:
    """Wait within one run; False when it ended and another may be meant."""
    config = Config.unpack(run.config.key, run.config.value)
    if wanted.role is not None:
        config.replicas.require(Task(wanted.role, 0))
    control, roster = ControlView(run.keys), Roster(run.keys)
    views: tuple[View, ...] = (control, roster) if wanted.role else (control,)
    roles = (wanted.role,) if wanted.role else config.policy.deciding_roles(config.replicas)
    of = config.replicas.least_size(roles)

    def missing() -> dict[str, str]:
        if wanted.role:
            return {str(task): "not registered" for task in config.replicas.short_of(roster.registrations, roles)}
        tasks = control.members(config.replicas, roles)
        return {str(task): "not finished" for task in tasks if task not in control.gone.finished}

    def look() -> JobState | None:
        over = control.state.over
        return control.state if over or (wanted.role and not missing()) else None

    for view in views:
        yield Follow(view, until)
    yield from settle(Txn(then=tuple(whole(view.prefix) for view in views)), clock, until)
    while True:
        state: JobState | None = yield Await(look, patience.next())
        if state is not None:
            for view in views:
                yield Unfollow(view)
            return _judge(wanted, state)
        if patience.over():
            raise _timed_out(wanted, missing(), patience)
        if patience.due():
            absent = missing()
            what = f"waiting for {wanted}"
            yield Tell(Progress(what, max(0, of - len(absent)), of, absent, patience.waited(), patience.left()))


def _judge(wanted: Wanted, state: JobState) -> bool:
    if wanted.role and state.over and wanted.run is None:
        return False
    if state.phase == "failed" or (wanted.role and state.over):
        raise state.error(wanted.job.job)
    return True


def _timed_out(wanted: Wanted, missing: dict[str, str], patience: Patience) -> PsBarrierError:
    kind = GateTimeoutError if wanted.role else JobTimeoutError
    text = f"{wanted} did not come within {patience.waited():.1f} s: {describe_missing(missing)}"
    return kind(text, missing=missing)
