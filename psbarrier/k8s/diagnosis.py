"""Diagnosis: what Kubernetes knows of a job's Pods, in words; why one of them does not run. Pure.

What the fields mean: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from psbarrier.k8s import naming
from psbarrier.k8s.pod import CONTAINER
from psbarrier.k8s.template import JobTemplate
from psbarrier.spec import Task

Object = Mapping[str, Any]

_LONGEST = 300
_CODES = {
    2: "a usage error, of psbarrier or the command",
    110: "the job failed elsewhere",
    111: "a deadline passed",
    112: "etcd could not be reached",
    113: "etcd refused",
    114: "its slot was lost or taken",
}


@frozen
class PodStatus:
    """A Pod: which task it is (None: none of the job's), of which run, and how it stands.

    `trouble`: it will not run by itself, or has not ended well.
    """

    name: str
    task: Task | None
    run: str
    state: str
    node: str
    trouble: bool
    created: str
    going: bool


def pods(job: JobTemplate, found: Iterable[Object]) -> list[PodStatus]:
    """How each Pod stands, the newest of each task last."""
    every = [_pod(job, each) for each in found]
    return sorted(every, key=lambda pod: (not pod.going, pod.created, pod.name))


def current(job: JobTemplate, every: Iterable[PodStatus]) -> dict[Task, PodStatus]:
    """The newest Pod of each task, one that is not going away if there is one."""
    newest = {pod.task: pod for pod in every if pod.task is not None and pod.task in job.replicas}
    return dict(sorted(newest.items()))


def _pod(job: JobTemplate, each: Object) -> PodStatus:
    metadata, status = each["metadata"], each.get("status", {})
    state, trouble = _state(status)
    going = "deletionTimestamp" in metadata
    return PodStatus(
        name=metadata["name"],
        task=_task(job, each),
        run=_run(metadata),
        state=f"{state}; being ended" if going else state,
        node=each.get("spec", {}).get("nodeName", ""),
        trouble=trouble,
        created=metadata.get("creationTimestamp") or "",
        going=going,
    )


def _task(job: JobTemplate, each: Object) -> Task | None:
    metadata = each["metadata"]
    component = metadata.get("labels", {}).get(naming.COMPONENT, "")
    index = metadata.get("annotations", {}).get(naming.INDEX)
    if index is None:
        index = next((str(v.get("value")) for v in _variables(each) if v["name"] == "PSBARRIER_INDEX"), "")
    if not index.isdecimal():
        return None
    if any(variable["name"] == "PSBARRIER_SLOT" for variable in _variables(each)):
        return job.replicas.at(int(index)) if int(index) < job.replicas.size else None
    task = Task(component, int(index)) if component in job.roles else None
    return task if task in job.replicas else None


def _variables(each: Object) -> Iterable[Object]:
    containers = each.get("spec", {}).get("containers", [])
    return [variable for container in containers for variable in container.get("env", [])]


def _run(metadata: Object) -> str:
    labels: Mapping[str, str] = metadata.get("labels", {})
    if naming.RUN in labels:
        return labels[naming.RUN]
    whole = labels.get("jobset.sigs.k8s.io/jobset-uid")
    if whole:
        return f"{whole}-{labels.get('jobset.sigs.k8s.io/restart-attempt', '0')}"
    return labels.get("batch.kubernetes.io/controller-uid", "")


def _state(status: Object) -> tuple[str, bool]:
    """How a Pod stands, and whether that is a trouble."""
    phase = status.get("phase", "Pending")
    states = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
    for container in states:
        state = container.get("state", {})
        if "terminated" in state and (state["terminated"].get("exitCode") or phase == "Failed"):
            return _ended(container["name"], state["terminated"]), True
        if "waiting" in state and state["waiting"].get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return _words(state["waiting"]["reason"], state["waiting"].get("message")), True
    if phase == "Failed":
        return _words(status.get("reason") or "Failed", status.get("message")), True
    if phase == "Pending":
        return _pending(status)
    words: dict[str, str] = {"Running": "running", "Succeeded": "done"}
    return words.get(phase, str(phase)), phase == "Unknown"


def _pending(status: Object) -> tuple[str, bool]:
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            if condition.get("reason") == "SchedulingGated":
                return "waits for its gang or queue (SchedulingGated)", True
            return _words("no node", condition.get("message")), True
    scheduled = any(
        each["type"] == "PodScheduled" and each["status"] == "True" for each in status.get("conditions", [])
    )
    return ("its container is being made" if scheduled else "waits for a node"), False


def _ended(container: str, state: Object) -> str:
    code, reason = state.get("exitCode"), state.get("reason") or "Error"
    if reason == "OOMKilled":
        return "OOMKilled: it used more memory than its limit"
    meaning = f", {_CODES[code]}" if container == CONTAINER and code in _CODES else ""
    return _words(f"ended with {code}{meaning}" if reason == "Error" else f"{reason} ({code})", state.get("message"))


def _words(reason: str, message: Any) -> str:
    text = " ".join(str(message or "").split())
    return f"{reason}: {text}"[:_LONGEST] if text else reason


def of_owners(found: Iterable[Object]) -> list[str]:
    """What the Jobs and JobSets themselves say: suspended, failed and why; a sentence each."""
    said = []
    for each in found:
        if each["kind"] not in ("Job", "JobSet"):
            continue
        for condition in each.get("status", {}).get("conditions", []):
            if condition["status"] == "True" and condition["type"] in ("Suspended", "Failed", "FailureTarget"):
                what = "is suspended" if condition["type"] == "Suspended" else "has failed"
                words = _words(condition.get("reason") or "", condition.get("message"))
                said.append(f"{each['kind']} {each['metadata']['name']} {what} ({words})")
    return list(dict.fromkeys(said))


def ended(found: Iterable[Object]) -> str:
    """What Kubernetes says of the job's end: "failed" once one Job or JobSet has, "succeeded" once all have; else nothing."""
    ends = []
    for each in found:
        if each["kind"] in ("Job", "JobSet"):
            conditions = each.get("status", {}).get("conditions", [])
            true = {condition["type"] for condition in conditions if condition["status"] == "True"}
            ends.append("failed" if "Failed" in true else "succeeded" if true & {"Complete", "Completed"} else "")
    if "failed" in ends:
        return "failed"
    return "succeeded" if ends and "" not in ends else ""


def of_events(found: Iterable[Object]) -> list[str]:
    """Why Pods could not even be made: what the events of a Job say of that, the latest of each kind."""
    latest = {
        (each["involvedObject"].get("kind"), each["involvedObject"].get("name")): each
        for each in sorted(found, key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime") or ""))
        if each.get("type") == "Warning" and each.get("reason") == "FailedCreate"
    }
    return [
        f"{kind} {name} cannot make Pods: {_words('', each.get('message'))[2:]}"
        for (kind, name), each in latest.items()
    ]
