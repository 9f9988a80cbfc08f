"""psbarrier jobs: every job below the prefix, and who keeps it waiting."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import click
from rich.table import Table
from rich.text import Text

from psbarrier.cli import listing, tables
from psbarrier.cli.listing import Row
from psbarrier.cli.options import Etcd, etcd_options

_SHOWN = 3
_STYLES = {"running": "green", "succeeded": "green", "starting": "yellow", "unreadable": "red"}


@click.command(short_help="List the jobs.")
@click.option("--all", "everything", is_flag=True, help="Also the runs that are over and still retained.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@etcd_options
def jobs(etcd: Etcd, everything: bool, as_json: bool) -> None:
    """List the runs of all jobs below --prefix: how each stands, since when, how many tasks are there, and who is missing.

    AGE is the time since the run was founded, by the clock of the process that did it; "-" for one that an older psbarrier
    has founded. Needs the right to read the whole prefix, which the user of one job does not have.
    """
    with etcd.open() as store:
        found = listing.read(store, store.prefix)
    shown = [row for row in found if everything or not row.state.over]
    if as_json:
        click.echo(json.dumps({"prefix": etcd.prefix, "runs": [row.as_dict() for row in shown]}))
        return
    if shown:
        tables.console().print(view(shown, time.time()))
    else:
        click.echo(f"no {'job' if everything else 'running job'} below {etcd.prefix}/")
    hidden = len(found) - len(shown)
    if hidden:
        click.echo(f"{hidden} {'run is' if hidden == 1 else 'runs are'} over: psbarrier jobs --all shows them")


def view(rows: Iterable[Row], now: float) -> Table:
    """One line for each run, for people; `now` is seconds since 1970."""
    table = tables.table("JOB", "RUN", "STATE", "AGE", "THERE", "MISSING", "FOR")
    for row in rows:
        there = f"{row.there}/{row.size}" if row.size else str(row.there)
        cells = (row.run, _age(row.founded, now), there, *_missing(row, now))
        run, age, count, missing, since = (Text(cell) for cell in cells)
        table.add_row(
            Text(row.job), run, Text(_state(row, now), _STYLES.get(row.word, "red")), age, count, missing, since
        )
    return table


def _state(row: Row, now: float) -> str:
    if row.problem:
        return f"unreadable: {row.problem}"
    if not row.state.over:
        return row.word
    return f"{row.state}, {_age(row.state.since, now)} ago"


def _missing(row: Row, now: float) -> tuple[str, str]:
    """The first few who are missing, with why; and how long the first of them has been."""
    if not row.missing or row.state.over:
        return "", ""
    names = [f"{each.task} ({each.why})" for each in row.missing[:_SHOWN]]
    if len(row.missing) > _SHOWN:
        names.append(f"and {len(row.missing) - _SHOWN} more")
    known = [each.since for each in row.missing if each.since]
    return ", ".join(names), _age(min(known), now) if known else "-"


def _age(since: float, now: float) -> str:
    return tables.duration(now - since) if since else "-"
