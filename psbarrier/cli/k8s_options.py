"""What the commands below `psbarrier k8s` share: the job file, the kind, the namespace."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import evolve, frozen

from psbarrier.errors import InvalidArgumentError

if TYPE_CHECKING:
    from psbarrier.k8s import JobTemplate
    from psbarrier.k8s.cluster import Cluster

logger = logging.getLogger("psbarrier")
F = TypeVar("F", bound=Callable[..., Any])

KINDS = ("job", "pods", "jobset")

file_argument = click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
kind_option = click.option(
    "--kind", type=click.Choice(KINDS), default="job", show_default=True, help="What the Pods belong to."
)
namespace_option = click.option("--namespace", "-n", metavar="NAME", help="The namespace, in place of the file's.")


@frozen
class Where:
    """Which cluster and namespace the options mean."""

    namespace: str | None
    kubeconfig: str | None
    context: str | None

    def open(self, namespace: str | None) -> Cluster:
        """The cluster; `namespace` is the job's. Raises InvalidArgumentError when there is none to talk to."""
        try:
            from psbarrier.k8s.cluster import Cluster
        except ModuleNotFoundError as error:
            raise InvalidArgumentError(
                f"this needs the package {error.name}, which is not installed: pip install 'psbarrier[k8s]'"
            ) from error
        return Cluster.open(self.namespace or namespace, self.kubeconfig, self.context)


def cluster_options(function: F) -> F:
    """Adds the options that say which cluster is meant; the function gets one argument, `where`."""

    @functools.wraps(function)
    def with_cluster(
        *args: Any, namespace: str | None, kubeconfig: str | None, context: str | None, **given: Any
    ) -> Any:
        return function(*args, where=Where(namespace, kubeconfig, context), **given)

    decorated: Any = with_cluster
    for decorate in (
        click.option("--context", metavar="NAME", help="The context of the kubeconfig, in place of the current one."),
        click.option("--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="As for kubectl."),
        namespace_option,
    ):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # what click's decorators return is what they were given


def job_of(file: str, namespace: str | None) -> JobTemplate:
    """The job that a file describes; "-" is standard input. Raises InvalidArgumentError."""
    try:
        from psbarrier.k8s.jobfile import load
    except ModuleNotFoundError as error:
        raise InvalidArgumentError(
            f"job files need {error.name}, which is not installed: pip install 'psbarrier[k8s]'"
        ) from error
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidArgumentError(f"the job file {file!r} cannot be read: {error.strerror}") from error
    except UnicodeError as error:
        raise InvalidArgumentError(f"the job file {file!r} is no UTF-8 text") from error
    job = load(text, "standard input" if file == "-" else file)
    return job if namespace is None else evolve(job, namespace=namespace)


def warn(job: JobTemplate, kind: str) -> None:
    """Say what may be meant so, but seldom is."""
    from psbarrier.k8s import warnings

    for sentence in warnings(job, kind):
        logger.warning("%s", sentence)
