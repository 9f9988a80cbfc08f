"""psbarrier spec: the cluster spec of a job, as JSON, or as the variables or the file that a framework reads."""

from __future__ import annotations

import json
import shlex

import click

from psbarrier import emit
from psbarrier.cli import environment, runs
from psbarrier.cli.options import Etcd, etcd_options, option
from psbarrier.errors import InvalidArgumentError, PsBarrierError
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import Seal, unpack_spec
from psbarrier.spec import ClusterSpec, Task
from psbarrier.store.base import Range, Store


@click.command(short_help="Print a job's cluster spec, or one made of addresses.")
@click.argument("words", nargs=-1, metavar="JOB | --static ROLE=HOST:PORT,…")
@click.option("--static", is_flag=True, help="Take the addresses from the arguments instead of etcd.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", *sorted([*emit.FORMATS, *emit.FILES])]),
    help="[default: psbarrier with --task, else json]",
)
@click.option("--task", metavar="ROLE:I", help="Whose variables to print.")
@click.option("--json", "as_object", is_flag=True, help="Print the variables as a JSON object.")
@option("--run", "run_name", metavar="NAME", help="The run; without one, the job's current one.")
@etcd_options
def spec(
    etcd: Etcd,
    words: tuple[str, ...],
    static: bool,
    form: str | None,
    task: str | None,
    as_object: bool,
    run_name: str | None,
) -> None:
    """Print who is who in a running JOB: as JSON, as shell commands that set what a framework reads, or as mpirun's file.

    \b
        eval "$(psbarrier spec ctr --format tensorflow --task worker:0)"
        psbarrier spec --static ps=a:1 worker=b:1,c:1 --task worker:0 --format tensorflow
        psbarrier spec ctr --format openmpi > hosts
    """
    wanted = Task.parse(task) if task is not None else None
    form = form or ("json" if wanted is None else "psbarrier")
    check(form, wanted, as_object)
    if static:
        found = ClusterSpec.from_addresses(addresses(words))
    elif len(words) == 1:
        keys = etcd.job(words[0])
        with etcd.open() as store:
            found = sealed(store, keys, run_name)
    else:
        raise InvalidArgumentError("name one job, or pass --static and the addresses: ps=a:1 worker=b:1,c:1")
    click.echo(render(found, form, wanted, as_object), nl=form not in emit.FILES)


def check(form: str, task: Task | None, as_object: bool) -> None:
    """Raises InvalidArgumentError, before etcd is asked, for options that do not go together."""
    if form in emit.FORMATS and task is None:
        raise InvalidArgumentError(
            f"the format {form!r} describes one task: add --task ROLE:INDEX, for example worker:0"
        )
    if form not in emit.FORMATS and task is not None:
        raise InvalidArgumentError(f"the format {form!r} is the same for all tasks: leave out --task")
    if form in emit.FILES and as_object:
        raise InvalidArgumentError(f"the format {form!r} is a file, and no variables: leave out --json")


def addresses(words: tuple[str, ...]) -> dict[str, list[str]]:
    """{"ps": ["a:1"], "worker": ["b:1", "c:1"]} from ("ps=a:1", "worker=b:1,c:1")."""
    roles: dict[str, list[str]] = {}
    for word in words:
        role, equals, where = word.partition("=")
        if not equals:
            raise InvalidArgumentError(f"{word!r} does not read ROLE=HOST:PORT,HOST:PORT")
        if role in roles:
            raise InvalidArgumentError(f"the role {role!r} is given twice: write its addresses with commas")
        roles[role] = where.split(",")
    return roles


def sealed(store: Store, job: JobKeys, name: str | None) -> ClusterSpec:
    """The newest sealed spec of a run; PsBarrierError when there is none."""
    run = runs.find(store, job, name).meant()
    if run is None:
        raise PsBarrierError(f"job {job.job!r} has no run{f' {name!r}' if name else ''} in etcd: start it first")
    while True:
        until = store.clock.now() + 2 * store.request_timeout
        seal = store.read(Range(run.keys.cluster), until=until).one(0)
        if seal is None:
            raise PsBarrierError(
                f"the cluster of job {job.job!r} is not complete yet, so there is no spec: psbarrier status {job.job} says "
                "who is missing"
            )
        key = run.keys.body(Seal.unpack(seal.key, seal.value).epoch)
        body = store.read(Range(key), until=until).one(0)
        if body is not None:  # else a later epoch has just replaced it
            return unpack_spec(body.key, body.value)


def render(found: ClusterSpec, form: str, task: Task | None, as_object: bool) -> str:
    """What is printed."""
    if form in emit.FILES:
        return emit.file(form, found)
    if task is None:
        return json.dumps(environment.as_json(found), indent=2)
    variables = found.env(form, task)
    if as_object:
        return json.dumps(variables, indent=2)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
