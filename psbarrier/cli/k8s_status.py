"""psbarrier k8s status: what Kubernetes and psbarrier know of a job's tasks, in one table."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from psbarrier.cli import snapshot, tables
from psbarrier.cli.exits import JOB_FAILED
from psbarrier.cli.k8s_options import Where, cluster_options, file_argument, job_of
from psbarrier.cli.options import Etcd, etcd_options
from psbarrier.errors import ClusterError, PsBarrierError

if TYPE_CHECKING:
    from psbarrier.k8s import JobTemplate
    from psbarrier.k8s.cluster import Cluster
    from psbarrier.k8s.overview import Known, Overview

NOT_FOUND = 1
_AGAIN = 2.0  # seconds between two looks


@click.command(short_help="Show what Kubernetes and psbarrier know of each task.")
@file_argument
@click.option("--watch", is_flag=True, help="Show it again at each change, until the job is over.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object, for programs; one for each change with --watch."
)
@cluster_options
@etcd_options
def status(file: str, where: Where, etcd: Etcd, watch: bool, as_json: bool) -> None:
    """Show each task of the job that FILE describes: its Pod, why that does not run, and what psbarrier knows of it.

    etcd is asked at --endpoints, or else at the file's endpoints; from outside of the cluster it may need a tunnel, such as
    `kubectl port-forward`. Exits with 1 when nothing of the job is in the cluster, and with --watch, 110 when it has failed.
    """
    job = job_of(file, where.namespace)
    cluster = where.open(job.namespace)
    shown: Overview | None = None
    redraw = watch and sys.stdout.isatty() and not as_json
    with Live(console=tables.console(), auto_refresh=False) if redraw else _Lines() as out:
        while True:
            now = look(cluster, job, etcd)
            if now != shown:
                out.update(json.dumps(now.as_dict()) if as_json else view(now), refresh=True)
                shown = now
            if not watch or now.over:
                break
            threading.Event().wait(_AGAIN)
    if not now.exists:
        raise click.exceptions.Exit(NOT_FOUND)
    if watch and now.failed:
        raise click.exceptions.Exit(JOB_FAILED)


class _Lines:
    """Prints each picture below the former."""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, picture: Any, refresh: bool) -> None:  # noqa: ARG002  # as Live has it
        """Print it."""
        if isinstance(picture, str):
            click.echo(picture)
        else:
            tables.console().print(picture)


def look(cluster: Cluster, job: JobTemplate, etcd: Etcd) -> Overview:
    """How the job stands now."""
    from psbarrier.k8s import diagnosis, naming, overview, submission
    from psbarrier.k8s.cluster import POD
    from psbarrier.k8s.etcd import pod_labels

    objects = submission.found(cluster, job)
    every = diagnosis.pods(job, cluster.list(POD, naming.as_text(naming.selector(job.name))))
    pods = diagnosis.current(job, every)
    notes = diagnosis.of_owners(objects)
    if len(pods) < job.replicas.size:
        notes += diagnosis.of_events(_events(cluster, objects))
    if job.etcd.deploy:
        own = diagnosis.pods(job, cluster.list(POD, naming.as_text(pod_labels(job))))
        notes += [f"the job's etcd: {pod.state} (Pod {pod.name})" for pod in own[-1:] if pod.state != "running"]
    run = next((pod.run for pod in pods.values()), "")
    known, note = _known(job, run, etcd)
    notes += [note] if note else []
    end, exists = diagnosis.ended(objects), bool(objects or pods)
    return overview.join(job, cluster.namespace, pods, known, notes, end=end, exists=exists)


def _events(cluster: Cluster, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of the Jobs; who may not list events does without."""
    from psbarrier.k8s.cluster import EVENT

    names = {each["metadata"]["name"] for each in objects if each["kind"] in ("Job", "JobSet")}
    try:
        found = cluster.list(EVENT, fields="reason=FailedCreate")
    except ClusterError:
        return []
    return [
        each for each in found if any(str(each["involvedObject"].get("name", "")).startswith(name) for name in names)
    ]


def _known(job: JobTemplate, run: str, etcd: Etcd) -> tuple[Known | None, str]:
    """What psbarrier knows of the run; else why that is not known."""
    from psbarrier.k8s import etcd as access
    from psbarrier.k8s.overview import Known

    if not run:
        return None, ""
    if not etcd.endpoints and job.etcd.deploy:
        name = access.name(job)
        return None, (
            f"to see what psbarrier knows: kubectl port-forward service/{name} {access.PORT}, "
            f"and --endpoints localhost:{access.PORT}"
        )
    etcd = evolve(etcd, endpoints=etcd.endpoints or ",".join(job.etcd.endpoints), prefix=job.etcd.prefix)
    try:
        keys = etcd.job(job.name).run(run)
        with etcd.open() as store:
            now = snapshot.read(store, job.name, run, keys)
    except PsBarrierError as error:
        return None, f"what psbarrier knows could not be read: {error}"
    if now is None:
        return None, f"etcd knows no run {run!r} yet: no task has reached it"
    tasks = {task.task: task.state for task in now.tasks}
    return Known(str(now.state), now.state.over, now.epoch > 0, tasks), ""


def view(now: Overview) -> RenderableType:
    """The overview, for people."""
    table = tables.table("TASK", "POD", "KUBERNETES", "PSBARRIER", "NODE")
    for row in now.rows:
        style = "yellow" if row.trouble else ""
        cells = (row.task, row.pod, row.kubernetes, row.psbarrier, row.node)
        table.add_row(*(Text(cell, style=style if cell == row.kubernetes else "") for cell in cells))
    run = f", run {now.run}" if now.run else ""
    state = f": {now.state}" if now.state else ""
    heading = Text(f"job {now.job} in namespace {now.namespace}{run}{state}\n{now.verdict}")
    return Group(heading, *(Text(f"note: {note}") for note in now.notes), table)
