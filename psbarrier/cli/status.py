"""psbarrier status: who is there, who is not and why, and who waits for whom."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from psbarrier.cli import runs, servers, snapshot, tables
from psbarrier.cli.options import Etcd, etcd_options, option
from psbarrier.cli.snapshot import BarrierStatus, Snapshot, TaskStatus
from psbarrier.doctor.connector import Server, ask_all
from psbarrier.errors import InvalidArgumentError
from psbarrier.flows.effects import Await, Change, Flow
from psbarrier.protocol.keys import JobKeys
from psbarrier.session import Session
from psbarrier.store.base import Store
from psbarrier.times import clock_time

NOT_FOUND = 1
_SPACING = 0.5
"""Seconds between two looks with --watch, however fast the job changes."""
_LOOK_AGAIN = 3600.0


@click.command(short_help="Show how a job, or etcd itself, stands.")
@click.argument("job", required=False)
@option("--run", "run_name", metavar="NAME", help="The run; without one, the current one, else the newest.")
@click.option("--watch", is_flag=True, help="Show it again at each change, until the job is over.")
@click.option("--server", is_flag=True, help="Show the etcd servers too; needs no JOB, and no rights.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object, for programs; one for each change with --watch."
)
@etcd_options
def status(etcd: Etcd, job: str | None, run_name: str | None, watch: bool, server: bool, as_json: bool) -> None:
    """Show each task of JOB, its barriers, its leader and its epoch, all as of one moment.

    Exits with 1 when the job has no run.
    """
    if job is None and not server:
        raise InvalidArgumentError("name a job, or pass --server")
    keys = etcd.job(job) if job is not None else None
    found = ask_all(etcd.connector()) if server else ()
    if keys is None:
        _show_servers(found, as_json)
    else:
        _show_job(etcd, keys, run_name, watch, as_json, found)


def _show_servers(found: Sequence[Server], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"servers": servers.as_json(found)}))
    else:
        tables.console().print(servers.view(found))


def _show_job(
    etcd: Etcd, keys: JobKeys, run_name: str | None, watch: bool, as_json: bool, found_servers: Sequence[Server]
) -> None:
    if found_servers and not as_json:
        _show_servers(found_servers, as_json)
    with etcd.open() as store:
        found = runs.find(store, keys, run_name)
        run = found.meant()
        if run is None:
            named = f" {run_name!r}" if run_name else ""
            click.echo(json.dumps(None) if as_json else f"job {keys.job!r} has no run{named} in etcd")
            raise click.exceptions.Exit(NOT_FOUND)
        others = [other.name for other in found.running if other.name != run.name]
        extra = {"servers": servers.as_json(found_servers)} if found_servers else {}
        with _Printer(as_json, others, extra, redraw=watch) as printer:
            for now in _looks(store, keys, run.name, forever=watch):
                printer.show(now)


def _looks(store: Store, job: JobKeys, name: str, *, forever: bool) -> Iterator[Snapshot]:
    """The run now, and, `forever`, after each change until it is over or gone."""
    keys = job.run(name)
    session = Session(store)
    try:
        while (now := snapshot.read(store, job.job, name, keys)) is not None:
            yield now
            if now.state.over or not forever:
                return
            session.run(_change(session, keys.root, now.revision))
    finally:
        session.close()


def _change(session: Session, prefix: str, revision: int) -> Flow[None]:
    """Return when something below `prefix` has changed after `revision`, but not too soon after the last time."""
    yield Await(lambda: None, session.clock.now() + _SPACING)
    yield Change(prefix, revision, session.clock.now() + _LOOK_AGAIN)


class _Printer:
    """Prints what it is shown: on a terminal in place of what was there before, if it is to be redrawn."""

    def __init__(self, as_json: bool, others: list[str], extra: dict[str, Any], *, redraw: bool) -> None:
        self._as_json, self._others, self._extra = as_json, others, extra
        self._console = tables.console()
        redraw = redraw and sys.stdout.isatty() and not as_json
        self._live = Live(console=self._console, auto_refresh=False) if redraw else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, now: Snapshot) -> None:
        if self._as_json:
            click.echo(json.dumps(now.as_dict() | self._extra))
        elif self._live is not None:
            self._live.update(view(now, self._others), refresh=True)
        else:
            self._console.print(view(now, self._others))


def view(now: Snapshot, others: Sequence[str] = ()) -> RenderableType:
    """The snapshot, for people; `others` are further runs that are running."""
    parts: list[RenderableType] = [_heading(now, others), _task_table(now.tasks)]
    if now.barriers:
        parts.append(_barrier_table(now.barriers))
    return Group(*parts)


def _heading(now: Snapshot, others: Sequence[str]) -> Text:
    state = now.state
    words = str(state) if not state.over else f"{state} ({clock_time(state.since)})"
    if state.phase == "failed":
        words += f", exit code {state.exit_code}"
    epoch = f"epoch {now.epoch}" if now.epoch else "not complete yet"
    leader = f"led by {now.leader}" if now.leader else "without a leader"
    also = f"\nalso running: {', '.join(others)}; see them with --run" if others else ""
    return Text(f"job {now.job}, run {now.run} ({now.replicas}): {words}\n{epoch}, {leader}{also}")


def _task_table(tasks: Iterable[TaskStatus]) -> Table:
    table = tables.table("TASK", "STATE", "ADDRESS", "INCARNATION", "PROCESS", "RESTARTS")
    for task in tasks:
        process = f"{task.pid} on {task.host}" if task.host else ""
        state = Text(task.state, style=_style(task.state))
        cells = (task.address, task.incarnation[:8], process, str(task.restarts))
        table.add_row(Text(task.task), state, *(Text(cell) for cell in cells))
    return table


def _style(state: str) -> str:
    if state == "finished":
        return "green"
    return "" if state == "registered" or state.startswith("at barrier") else "yellow"


def _barrier_table(barriers: Iterable[BarrierStatus]) -> Table:
    table = tables.table("BARRIER", "GENERATION", "ARRIVED", "WAITING", "MISSING", "BROKEN")
    for barrier in barriers:
        missing = barrier.missing if barrier.waiting or barrier.broken else {}
        cells = (
            barrier.name,
            str(barrier.generation),
            f"{barrier.arrived}/{barrier.parties}",
            _tasks(barrier.waiting),
            _tasks(missing),
            barrier.broken,
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _tasks(packed: Mapping[str, str]) -> str:
    return " ".join(f"{role}/{indices}" for role, indices in packed.items())
