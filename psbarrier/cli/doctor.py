"""psbarrier doctor: what would keep a job from running, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from psbarrier.cli import exits
from psbarrier.cli.options import Etcd, etcd_options, option
from psbarrier.doctor.examination import examine
from psbarrier.doctor.finding import Finding, Verdict, problems

_COLOURS = {
    Verdict.OK: "green",
    Verdict.NOTE: "bright_black",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "red",
    Verdict.SKIPPED: "cyan",
}
_CODES = {"usage": exits.USAGE, "unavailable": exits.UNAVAILABLE, "refused": exits.REFUSED}


@click.command(short_help="Check whether a job could run, and say what to do if not.")
@click.argument("job", envvar="PSBARRIER_JOB", required=False)
@option(
    "--address", metavar="HOST:PORT", help="Check this address of a task instead of the one that join() would choose."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@etcd_options
def doctor(etcd: Etcd, job: str | None, address: str | None, as_json: bool) -> None:
    """Check, one line each: every endpoint of etcd (name, connection, TLS, version, leader, alarms, space, login, speed);
    whether they are one cluster; whether the login may do what a job does, with the keys of JOB if one is named; and
    whether others could reach a task on this machine. Writes one key, and removes it. Takes about 20 seconds at most.

    Exits with 0 when nothing would stop a job, perhaps with warnings; else as the job would: 112 when etcd cannot be
    reached, 113 when it refuses, 2 when an option or address can never work.
    """
    keys = etcd.job(job) if job is not None else None
    found = examine(etcd.connector(), keys, address)
    code = exit_code(found)
    if as_json:
        click.echo(json.dumps({"exit_code": code, "findings": [as_dict(finding) for finding in found]}))
    else:
        _print(found)
    raise click.exceptions.Exit(code)


def exit_code(found: Sequence[Finding]) -> int:
    """That of the first problem, for what comes later may follow from it."""
    return next((_CODES[finding.kind] for finding in problems(found)), 0)


def as_dict(finding: Finding) -> dict[str, Any]:
    """One line of --json."""
    names = ("where", "check", "said", "advice", "kind")
    return {"verdict": finding.verdict.value, **{name: getattr(finding, name) for name in names}}


def _print(found: Sequence[Finding]) -> None:
    colour = sys.stdout.isatty()
    width = max(len(finding.check) for finding in found)
    for place in dict.fromkeys(finding.where for finding in found):
        click.echo(place)
        for finding in (each for each in found if each.where == place):
            word = f"{finding.verdict.value:7}"
            word = click.style(word, fg=_COLOURS[finding.verdict]) if colour else word
            click.echo(f"  {word}  {finding.check:{width}}  {finding}")
    stops = problems(found)
    warnings = sum(finding.verdict is Verdict.WARNING for finding in found)
    beside = f" ({warnings} warning{'s' if warnings > 1 else ''})" if warnings else ""
    if stops:
        count = f"{len(stops)} problem{'s' if len(stops) > 1 else ''}"
        click.echo(f"{count} would stop a job{beside}")
    else:
        click.echo(f"nothing here would stop a job{beside}")
