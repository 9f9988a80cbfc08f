"""psbarrier k8s: from a job file to manifests, and to a cluster. What needs PyYAML or the package kubernetes loads it late."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psbarrier.cli.k8s_cluster import delete, submit
from psbarrier.cli.k8s_options import file_argument, job_of, kind_option, namespace_option, warn
from psbarrier.cli.k8s_status import status
from psbarrier.cli.options import option
from psbarrier.errors import InvalidArgumentError

if TYPE_CHECKING:
    from psbarrier.k8s import JobTemplate


@click.group(short_help="Kubernetes: render a job, submit it, see how it stands, take it away.")
def k8s() -> None:
    """From a short description of a job, a YAML file, to Pods that run `psbarrier run`, without an operator.

    docs/kubernetes.md says what stands in the file.
    """


_FILE = click.Path(exists=True, dir_okay=False)


@k8s.command(short_help="Print the manifests of a job.")
@file_argument
@kind_option
@namespace_option
@click.option("--run", "run_name", metavar="NAME", help="The run; without one, Kubernetes or the description names it.")
@click.option(
    "--secret", is_flag=True, help="Print the Secret with the job's access to etcd instead, made of these files:"
)
@option("--ca", type=_FILE, help="The authorities that vouch for etcd.")
@option("--cert", type=_FILE, help="The job's own certificate.")
@option("--key", type=_FILE, help="The key to it.")
@option("--password-file", type=_FILE, help="The password of the etcd user, as psbarrier etcd-user made it.")
def render(
    file: str, kind: str, namespace: str | None, run_name: str | None, secret: bool, **files: str | None
) -> None:
    """Print what `submit` would send for FILE, as YAML, for `kubectl apply -f -` or to be kept in a repository.

    The same FILE always renders to the same text. Where the run is named in it, a second submission of the same text would
    mean the same run, which is over: give it another --run.
    """
    from psbarrier.k8s import manifests
    from psbarrier.k8s.documents import dump

    job = job_of(file, namespace)
    if secret:
        click.echo(dump([_secret(job, files)]), nl=False)
        return
    objects = manifests(job, kind, run_name)
    warn(job, kind)
    click.echo(dump(objects), nl=False)


def _secret(job: JobTemplate, files: dict[str, str | None]) -> dict[str, Any]:
    from psbarrier.k8s import etcd

    keys = job.etcd.keys()
    if not keys:
        raise InvalidArgumentError(f"job {job.name!r} uses no Secret: name one in etcd.secret")
    contents = {}
    for what, key in keys.items():
        given = files["password_file" if what == "password" else what]
        if given is None:
            flag = "--password-file" if what == "password" else f"--{what}"
            raise InvalidArgumentError(f"the Secret {job.etcd.secret!r} has the key {key!r}: pass {flag} FILE")
        contents[what] = Path(given).read_bytes()
    return etcd.secret(job, contents)


@k8s.command(short_help="Print the JSON Schema of job files.")
def schema() -> None:
    """For an editor that completes and checks job files."""
    from psbarrier.k8s.schema import schema as described

    click.echo(json.dumps(described(), indent=2, ensure_ascii=False))


for command in (submit, status, delete):
    k8s.add_command(command)
