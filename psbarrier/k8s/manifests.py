"""Manifests: from a JobTemplate to the objects that Kubernetes is given, as plain dicts. Pure, and the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from psbarrier.errors import InvalidArgumentError
from psbarrier.k8s import etcd, naming
from psbarrier.k8s.identity import Identity
from psbarrier.k8s.pod import CONTAINER, all_labels, container_security, pod_security, pod_template
from psbarrier.k8s.shape import near
from psbarrier.k8s.template import JobTemplate
from psbarrier.spec import check_name

Manifest = dict[str, Any]

SPARE_TRIES = 6
"""Further Pods for a task beside the crashes that the job forgives: for a deadline, or an etcd that was away."""


def manifests(job: JobTemplate, kind: str = "job", run: str | None = None) -> list[Manifest]:
    """The objects of the job, in the order in which they should be made.

    `kind` is "job" (one Indexed Job if the Pods of all roles are alike, else one for each role), "pods" or "jobset". `run`
    names the run; None takes it from the Job or JobSet, and where the Pods have none in common, makes one of the
    description, the same each time: a second submission of the same then needs another.

    Raises InvalidArgumentError for another kind, or a run that cannot be one.
    """
    if kind not in KINDS:
        raise InvalidArgumentError(f"there is no kind {kind!r}: there are {', '.join(KINDS)}{near(kind, KINDS)}")
    if run is not None:
        check_name("run", run)
    before = etcd.objects(job, pod_security(job), container_security(read_only=True))
    return [*before, *_pod_group(job), *KINDS[kind](job, run)]


def names_its_run(job: JobTemplate, kind: str) -> bool:
    """Whether the run has to be named when the job is submitted: the Pods do not have a Job or JobSet in common."""
    return kind == "pods" or (kind == "job" and not job.alike)


def fixed_run(job: JobTemplate) -> str:
    """A name for the run that only depends on the description."""
    return f"r{hashlib.sha256(repr(job).encode()).hexdigest()[:12]}"


def _jobs(job: JobTemplate, run: str | None) -> list[Manifest]:
    base = naming.job_label(job.name)
    if job.alike:
        identity = Identity(None, f"{base}-$(PSBARRIER_SLOT)", run)
        spec = _job_spec(job, identity, job.replicas.size)
        spec["successPolicy"] = {"rules": [{"succeededIndexes": deciding_slots(job)}]}
        only = _object(job, "batch/v1", "Job", base, identity, spec)
        return [_service(job, run), _partly(job, job.replicas.roles[0], only)]
    run = run or fixed_run(job)
    found = [_service(job, run)]
    for role, count in job.replicas.counts:
        name = f"{base}-{naming.role_label(role)}"
        identity = Identity(role, f"{name}-$(PSBARRIER_INDEX)", run)
        each = _object(job, "batch/v1", "Job", name, identity, _job_spec(job, identity, count))
        found.append(_partly(job, role, each))
    return found


def _pods(job: JobTemplate, run: str | None) -> list[Manifest]:
    base, run = naming.job_label(job.name), run or fixed_run(job)
    found = [_service(job, run)]
    for task in job.replicas.tasks():
        name = f"{base}-{naming.role_label(task.role)}-{task.index}"
        pod = pod_template(job, Identity(task.role, name, run, task.index))
        metadata = {**_metadata(job, name, task.role, run), **pod["metadata"]}
        metadata["labels"] = metadata["labels"] | _kueue(job) | _kueue_group(job)
        if job.scheduling.system == "kueue":
            metadata.setdefault("annotations", {})["kueue.x-k8s.io/pod-group-total-count"] = str(job.replicas.size)
        spec = {"hostname": name} | pod["spec"]
        spec |= {"activeDeadlineSeconds": job.deadline} if job.deadline else {}
        found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return found


def _jobset(job: JobTemplate, run: str | None) -> list[Manifest]:
    base = naming.job_label(job.name)
    roles = []
    for role, count in job.replicas.counts:
        name = naming.role_label(role)
        # JobSet itself names its Jobs, one for each role here, and gives each of their Pods a host name.
        identity = Identity(role, f"{base}-{name}-0-$(PSBARRIER_INDEX)", run, in_set=True)
        spec = _job_spec(job, identity, count)
        spec.pop("ttlSecondsAfterFinished")
        metadata = {"labels": all_labels(job, role, run)}
        roles.append({"name": name, "replicas": 1, "template": {"metadata": metadata, "spec": spec}})
    spec = {
        "network": {"enableDNSHostnames": True, "subdomain": base, "publishNotReadyAddresses": True},
        "successPolicy": {
            "operator": "All",
            "targetReplicatedJobs": [naming.role_label(role) for role in sorted(job.deciding)],
        },
        "ttlSecondsAfterFinished": kept(job),
        "replicatedJobs": roles,
    }
    spec |= {"failurePolicy": {"maxRestarts": job.set_restarts}} if job.set_restarts else {}
    return [_object(job, "jobset.x-k8s.io/v1alpha2", "JobSet", base, Identity(None, "", run), spec)]


KINDS: dict[str, Callable[[JobTemplate, str | None], list[Manifest]]] = {"job": _jobs, "pods": _pods, "jobset": _jobset}


def _job_spec(job: JobTemplate, identity: Identity, count: int) -> Manifest:
    spec: Manifest = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimitPerIndex": job.max_restarts + SPARE_TRIES,
        "maxFailedIndexes": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": failure_policy(),
        "ttlSecondsAfterFinished": kept(job),
    }
    spec |= {"activeDeadlineSeconds": job.deadline} if job.deadline else {}
    return spec | {"template": pod_template(job, identity)}


def failure_policy() -> Manifest:
    """What Kubernetes makes of a Pod's end, by the exit code of `psbarrier run`; the first rule that fits decides.

    An eviction or a preemption, a slot that was lost or is still held by a former Pod (114), and a Pod that was asked to
    end, by a suspension say (128 + SIGTERM), cost nothing: the Pod is replaced. A job that has failed (110), or an etcd
    that refuses (113), ends all. All other codes are counted.
    """

    def on(action: str, *codes: int) -> Manifest:
        return {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": list(codes)}}

    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {"rules": [on("FailJob", 110, 113), evicted, on("Ignore", 114, 143)]}


def deciding_slots(job: JobTemplate) -> str:
    """The slots of the tasks whose end is the job's, as ranges: "2-5"."""
    ranges, first = [], 0
    for role, count in job.replicas.counts:
        if role in job.deciding:
            ranges.append(f"{first}-{first + count - 1}" if count > 1 else str(first))
        first += count
    return ",".join(ranges)


def kept(job: JobTemplate) -> int:
    """Seconds that Kubernetes keeps what has ended."""
    return int(job.retention) if job.clean_up_after is None else job.clean_up_after


def _object(job: JobTemplate, api: str, kind: str, name: str, identity: Identity, spec: Manifest) -> Manifest:
    metadata = _metadata(job, name, identity.component, identity.run)
    metadata["labels"] |= _kueue(job)
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def _metadata(job: JobTemplate, name: str, component: str, run: str | None) -> Manifest:
    found: Manifest = {"name": name, "labels": all_labels(job, component, run)}
    return found | ({"namespace": job.namespace} if job.namespace else {})


def _service(job: JobTemplate, run: str | None) -> Manifest:
    """The headless Service that gives each Pod a name, from the moment it has an address."""
    selector = naming.selector(job.name)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job, naming.job_label(job.name), "network", run),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector},
    }


def _kueue(job: JobTemplate) -> dict[str, str]:
    return {"kueue.x-k8s.io/queue-name": job.scheduling.queue or ""} if job.scheduling.system == "kueue" else {}


def _partly(job: JobTemplate, role: str, each: Manifest) -> Manifest:
    """Kueue may start the Job of an elastic role with fewer Pods than the most."""
    if job.scheduling.system == "kueue" and role in job.replicas.elastic_roles:
        least = str(job.replicas.minimum(role))
        each["metadata"]["annotations"] = {"kueue.x-k8s.io/job-min-parallelism": least}
    return each


def _kueue_group(job: JobTemplate) -> dict[str, str]:
    """Bare Pods are admitted together."""
    named = {"kueue.x-k8s.io/pod-group-name": naming.job_label(job.name)}
    return named if job.scheduling.system == "kueue" else {}


def _pod_group(job: JobTemplate) -> list[Manifest]:
    """What a gang scheduler counts the Pods against."""
    apis = {"volcano": "scheduling.volcano.sh/v1beta1", "coscheduling": "scheduling.x-k8s.io/v1alpha1"}
    system = job.scheduling.system or ""
    if system not in apis:
        return []
    spec: Manifest = {"minMember": job.replicas.least_size()}
    spec |= {"queue": job.scheduling.queue} if job.scheduling.queue else {}
    metadata = _metadata(job, naming.job_label(job.name), "gang", None)
    return [{"apiVersion": apis[system], "kind": "PodGroup", "metadata": metadata, "spec": spec}]
