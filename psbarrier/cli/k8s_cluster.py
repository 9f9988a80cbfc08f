"""psbarrier k8s submit and delete."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from psbarrier.cli.k8s_options import Where, cluster_options, file_argument, job_of, kind_option, warn

if TYPE_CHECKING:
    from psbarrier.k8s import JobTemplate
    from psbarrier.k8s.cluster import Cluster

logger = logging.getLogger("psbarrier")


@click.command(short_help="Make the objects of a job in a cluster: all, or none.")
@file_argument
@kind_option
@click.option("--run", "run_name", metavar="NAME", help="The run; without one, Kubernetes or this submission names it.")
@click.option("--dry-run", is_flag=True, help="Have the server check everything, and change nothing.")
@cluster_options
def submit(file: str, kind: str, where: Where, run_name: str | None, dry_run: bool) -> None:
    """Submit the job that FILE describes.

    The server checks every object before the first one is made. When one is refused, what has been made goes away again.
    """
    job, cluster = opened(file, where)
    from psbarrier.k8s import submission

    warn(job, kind)
    objects = submission.objects_of(job, kind, cluster.namespace, run_name)
    for sentence in submission.try_out(cluster, objects):
        logger.warning("Kubernetes warns: %s", sentence)
    made = objects if dry_run else submission.make(cluster, objects)
    _say(f"{each['kind'].lower()}/{each['metadata']['name']} {'would be made' if dry_run else 'made'}" for each in made)
    if not dry_run:
        click.echo(f"see how it stands with: psbarrier k8s status {file} --namespace {cluster.namespace}")


@click.command(short_help="Take away what submit has made of a job.")
@file_argument
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@cluster_options
def delete(file: str, where: Where, dry_run: bool) -> None:
    """Delete the objects of the job that FILE describes, and no others: they are known by their labels.

    Running Pods are asked to end, and have the job's grace to do so. A Secret that you made yourself stays.
    """
    job, cluster = opened(file, where)
    from psbarrier.k8s import submission

    gone = submission.remove(cluster, submission.found(cluster, job), dry_run=dry_run)
    if not gone:
        click.echo(f"nothing of job {job.name!r} is in namespace {cluster.namespace!r}")
    _say(f"{name} {'would be deleted' if dry_run else 'deleted'}" for name in gone)


def opened(file: str, where: Where) -> tuple[JobTemplate, Cluster]:
    """The job, and the cluster that it is meant for."""
    job = job_of(file, where.namespace)
    return job, where.open(job.namespace)


def _say(lines: Any) -> None:
    said: Sequence[str] = list(lines)
    for line in said[:20]:
        click.echo(line)
    if len(said) > 20:
        click.echo(f"… and {len(said) - 20} more")
