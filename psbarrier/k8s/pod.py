"""Pod: the template of the Pods of one role, or of all roles: `psbarrier run` around the command, and nothing privileged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psbarrier.k8s import etcd, naming
from psbarrier.k8s.identity import Identity, address, literal
from psbarrier.k8s.template import JobTemplate, Role

CONTAINER = "task"
READY = "/tmp/psbarrier.ready"
"""The file that `psbarrier run` has there while the command runs."""
_EXTRA_GRACE = 15  # seconds in which psbarrier run reports the end of a command that took all of its own grace


def pod_template(job: JobTemplate, identity: Identity) -> dict[str, Any]:
    """`metadata` and `spec` of the Pods of this identity."""
    role = job.of(identity.role or next(iter(job.roles)))
    metadata: dict[str, Any] = {"labels": all_labels(job, identity.component, identity.run)}
    annotations = dict(job.annotations) | _gang_annotations(job)
    metadata |= {"annotations": annotations} if annotations else {}
    metadata["labels"] |= _gang_labels(job)
    return {"metadata": metadata, "spec": _spec(job, role, identity)}


def all_labels(job: JobTemplate, component: str, run: str | None = None) -> dict[str, str]:
    """Ours and the user's."""
    return naming.labels(job.name, component, run) | dict(job.labels)


def _spec(job: JobTemplate, role: Role, identity: Identity) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "subdomain": naming.job_label(job.name),
        "terminationGracePeriodSeconds": job.grace + _EXTRA_GRACE,
        "securityContext": pod_security(job),
    }
    spec |= _placement(job, role)
    spec["containers"] = [_container(job, role, identity)]
    volumes = [volume.manifest() for volume in role.volumes or ()]
    volumes += etcd.secret_volumes(job)
    volumes += [{"name": "psbarrier-tmp", "emptyDir": {}}] if job.user.read_only_root else []
    return spec | ({"volumes": volumes} if volumes else {})


def pod_security(job: JobTemplate) -> dict[str, Any]:
    """The Pod's part of Pod Security "restricted". The group owns the volumes, so that it can read a Secret of mode 0400; of a
    volume that is its own already, only the root is looked at, for there may be millions of files."""
    return {
        "runAsNonRoot": True,
        "runAsUser": job.user.uid,
        "runAsGroup": job.user.gid,
        "fsGroup": job.user.gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(*, read_only: bool) -> dict[str, Any]:
    """The container's part of it."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only,
    }


def _placement(job: JobTemplate, role: Role) -> dict[str, Any]:
    """Where the Pods may run, and what the scheduler is told."""
    given = {
        "nodeSelector": dict(role.node_selector or {}),
        "tolerations": [toleration.manifest() for toleration in role.tolerations or ()],
        "affinity": role.affinity,
        "topologySpreadConstraints": role.topology_spread,
        "priorityClassName": job.scheduling.priority_class,
        "schedulerName": job.scheduling.scheduler_name,
        "serviceAccountName": job.service_account,
        "imagePullSecrets": [{"name": name} for name in dict.fromkeys(job.image_pull_secrets)],
    }
    return {name: value for name, value in given.items() if value}


def _container(job: JobTemplate, role: Role, identity: Identity) -> dict[str, Any]:
    port = role.port or job.port
    own = [*identity.variables(), *address(job.address, identity, naming.job_label(job.name), port)]
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": role.image,
        "command": [*job.launcher, "run", *_options(job)],
        "args": list(role.command or ()),
        "env": [*own, *_settings(job), *(value.manifest(name) for name, value in role.env.items())],
        "ports": [{"name": CONTAINER, "containerPort": port}],
    }
    container |= {"readinessProbe": _probe()} if job.readiness else {}
    container |= {"imagePullPolicy": job.image_pull_policy} if job.image_pull_policy else {}
    resources = role.resources.manifest() if role.resources else {}
    container |= {"resources": resources} if resources else {}
    container["securityContext"] = container_security(read_only=job.user.read_only_root)
    mounts = [volume.mount() for volume in role.volumes or ()] + etcd.secret_mounts(job)
    mounts += [{"name": "psbarrier-tmp", "mountPath": "/tmp"}] if job.user.read_only_root else []
    return container | ({"volumeMounts": mounts} if mounts else {})


def _probe() -> dict[str, Any]:
    """A Pod is ready while its command runs, so that whoever waits at the gate is not. Looking costs no Python."""
    return {"exec": {"command": ["test", "-e", READY]}, "periodSeconds": 5}


def _options(job: JobTemplate) -> list[str]:
    """What `psbarrier run` reads no variable for."""
    options = [f"--gate-timeout={job.gate_timeout:g}", f"--grace={job.grace}"]
    options += [f"--ready-file={READY}"] if job.readiness else []
    options += ["--resolve"] if job.address == "dns" else []
    options += [f"--emit={name}" for name in job.emit]
    options += [f"--on-epoch={job.on_epoch}"] if job.on_epoch else []
    return [*options, "--"]


def _settings(job: JobTemplate) -> list[dict[str, Any]]:
    """What all tasks of the job are told alike."""
    grace = job.loss_grace
    pairs: dict[str, object] = {
        "PSBARRIER_JOB": job.name,
        "PSBARRIER_REPLICAS": job.replicas,
        **etcd.settings(job),
        "PSBARRIER_LOSS_GRACE": _pairs(grace.items()) if isinstance(grace, Mapping) else f"{grace:g}",
        "PSBARRIER_MAX_RESTARTS": job.max_restarts,
        "PSBARRIER_RETENTION": f"{job.retention:g}",
        **_elastic(job),
        "PSBARRIER_TTL": job.ttl,
        "PSBARRIER_JOIN_TIMEOUT": f"{job.join_timeout:g}",
    }
    if job.success is not None:
        pairs["PSBARRIER_SUCCESS"] = ",".join(job.success)
    return [literal(name, value) for name, value in pairs.items()]


def _elastic(job: JobTemplate) -> dict[str, object]:
    """What only a job with an elastic role has to be told."""
    if not job.replicas.elastic():
        return {}
    return {"PSBARRIER_LAST_CALL": f"{job.last_call:g}", "PSBARRIER_SETTLING": f"{job.settling:g}"}


def _pairs(items: Iterable[tuple[str, float]]) -> str:
    return ",".join(f"{role}={seconds:g}" for role, seconds in sorted(items))


def _gang_labels(job: JobTemplate) -> dict[str, str]:
    if job.scheduling.system == "coscheduling":
        return {"scheduling.x-k8s.io/pod-group": naming.job_label(job.name)}
    return {}


def _gang_annotations(job: JobTemplate) -> dict[str, str]:
    if job.scheduling.system == "volcano":
        return {"scheduling.k8s.io/group-name": naming.job_label(job.name)}
    return {}
