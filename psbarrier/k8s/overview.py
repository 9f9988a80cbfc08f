"""Overview: what Kubernetes and what psbarrier know of each task of a job, side by side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from psbarrier.k8s.diagnosis import PodStatus
from psbarrier.k8s.template import JobTemplate
from psbarrier.spec import Task


@frozen
class Row:
    """One task: its Pod, and what the two say. Empty where nothing is known."""

    task: str
    pod: str
    node: str
    kubernetes: str
    psbarrier: str
    trouble: bool


@frozen
class Overview:
    """All tasks, what is to be said of the job as a whole, and why it does not start, if it does not.

    `state` is psbarrier's, "running", "succeeded" or "failed …"; where that is not known, only an end is, by Kubernetes.
    `exists`: something of the job is in the cluster.
    """

    job: str
    namespace: str
    run: str
    state: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    verdict: str
    exists: bool

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return not self.exists or self.failed or self.state.startswith("succeeded")

    @property
    def failed(self) -> bool:
        """Whether the job has failed."""
        return self.state.startswith("failed")

    def as_dict(self) -> dict[str, Any]:
        """The form of `psbarrier k8s status --json`."""
        return asdict(self)


@frozen
class Known:
    """What psbarrier knows of a run: how it stands, whether its cluster is sealed, and each task's state."""

    state: str
    over: bool
    sealed: bool
    tasks: Mapping[str, str]


def join(
    job: JobTemplate,
    namespace: str,
    pods: Mapping[Task, PodStatus],
    known: Known | None,
    notes: Sequence[str],
    *,
    end: str,
    exists: bool,
) -> Overview:
    """Put both together. `known` None: etcd was not asked, did not answer, or knows no such run. `end` is Kubernetes' word."""
    state = known.state if known and (known.over or not end) else end
    rows = tuple(_row(task, pods.get(task), known, over=bool(end)) for task in job.replicas.tasks())
    run = next((pod.run for pod in pods.values()), "")
    return Overview(
        job=job.name,
        namespace=namespace,
        run=run,
        state=state,
        rows=rows,
        notes=tuple(notes),
        verdict=_verdict(_awaited(job, rows), known, state)
        if exists
        else "it is not in the cluster: submit it with psbarrier k8s submit",
        exists=exists,
    )


def _row(task: Task, pod: PodStatus | None, known: Known | None, *, over: bool) -> Row:
    said = known.tasks.get(str(task), "") if known else ""
    if pod is None:
        return Row(str(task), "", "", "no Pod", said, trouble=not over and not (known and known.over))
    return Row(str(task), pod.name, pod.node, pod.state, said, pod.trouble)


def _awaited(job: JobTemplate, rows: Sequence[Row]) -> list[Row]:
    """The rows without those of an elastic role that is not short of its least: nobody waits for them."""
    well = {Task.parse(row.task) for row in rows if not row.trouble}
    short = set(job.replicas.short_of(well))
    spare = job.replicas.elastic_roles - {task.role for task in short}
    return [row for row in rows if Task.parse(row.task).role not in spare or not row.trouble]


def _verdict(rows: Sequence[Row], known: Known | None, state: str) -> str:
    """One sentence: what keeps the job from starting, or that nothing does."""
    if state.startswith(("succeeded", "failed")):
        return f"the job is over: {state}"
    troubled = [row for row in rows if row.trouble]
    if troubled:
        first = troubled[0]
        more = f", and {len(troubled) - 1} more" if len(troubled) > 1 else ""
        held = "the job waits for" if known is None or not known.sealed else "the job goes on without"
        return f"{held} {first.task} ({first.kubernetes}){more}"
    if known is None:
        return "all Pods run or come; what psbarrier knows of them is not known here"
    absent = [row.task for row in rows if known.tasks.get(row.task) == "not registered"]
    if absent and not known.sealed:
        return f"the job waits for {', '.join(absent[:5])}{' and more' if len(absent) > 5 else ''} to register: see its log"
    return "the job runs" if known.sealed else "all tasks are registered, and the job is about to start"
