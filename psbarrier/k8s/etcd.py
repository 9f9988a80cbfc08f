"""etcd: how the Pods reach it, the Secret with what they log in with, and the small one that is made for a job."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from psbarrier.k8s import naming, parts
from psbarrier.k8s.template import JobTemplate

PORT = 2379
_VOLUME = "psbarrier-etcd"
_VARIABLES = {"ca": "CA", "cert": "CERT", "key": "KEY", "password": "PASSWORD_FILE"}
_DATA = "/var/lib/etcd"


def settings(job: JobTemplate) -> dict[str, object]:
    """The variables from which a task finds its etcd. Secrets are files, and only their paths are told."""
    access = job.etcd
    endpoints = (f"{name(job)}:{PORT}",) if access.deploy else access.endpoints
    pairs: dict[str, object] = {"PSBARRIER_ENDPOINTS": ",".join(endpoints), "PSBARRIER_PREFIX": access.prefix}
    keys = access.keys()
    for what, key in keys.items():
        pairs[f"PSBARRIER_{_VARIABLES[what]}"] = f"{parts.SECRET_FOLDER}/{key}"
    if "password" in keys:
        pairs["PSBARRIER_USER"] = user(job)
    return pairs


def user(job: JobTemplate) -> str:
    """The etcd user: the one that `psbarrier etcd-user JOB` makes, unless another is named."""
    return job.etcd.user or f"psbarrier-{job.name}"


def secret_volumes(job: JobTemplate) -> list[dict[str, Any]]:
    """The Secret, with the keys that are used and no others."""
    keys = job.etcd.keys()
    if not keys:
        return []
    items = [{"key": key, "path": key} for key in dict.fromkeys(keys.values())]
    return [{"name": _VOLUME, "secret": {"secretName": job.etcd.secret, "defaultMode": 0o400, "items": items}}]


def secret_mounts(job: JobTemplate) -> list[dict[str, Any]]:
    """Where the container finds it."""
    return [{"name": _VOLUME, "mountPath": parts.SECRET_FOLDER, "readOnly": True}] if job.etcd.keys() else []


def secret(job: JobTemplate, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """The Secret that the job's Pods mount, of contents by what they are: "ca", "cert", "key", "password"."""
    keys = job.etcd.keys()
    data = {keys[what]: content for what, content in contents.items()}
    return secret_of(job.name, job.etcd.secret or "", data, namespace=job.namespace, labels=job.labels)


def secret_of(
    job: str,
    name: str,
    data: Mapping[str, bytes],
    *,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A Secret with a job's access to etcd. It lacks the labels by which `delete` finds what `submit` made: it outlives the job.

    Raises MisfitError for a name that no Secret can have.
    """
    own = {naming.NAME: job, naming.COMPONENT: "etcd", **(labels or {})}
    metadata: dict[str, Any] = {"name": parts.NAME.take(name, ("secret",)), "labels": own}
    metadata |= {"namespace": namespace} if namespace else {}
    encoded = {key: base64.b64encode(content).decode() for key, content in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}


def name(job: JobTemplate) -> str:
    """What the objects of the job's own etcd are called."""
    return f"{naming.job_label(job.name)}-etcd"


def pod_labels(job: JobTemplate) -> dict[str, str]:
    """Those of its Pod, which is none of the job's tasks, and so none of the headless Service's. No job's instance has a dot."""
    return naming.labels(job.name, "etcd") | {naming.INSTANCE: f"{naming.job_label(job.name)}.etcd"}


def _metadata(job: JobTemplate, name: str, labels: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "labels": labels}
    return found | ({"namespace": job.namespace} if job.namespace else {})


def objects(job: JobTemplate, security: dict[str, Any], container_security: dict[str, Any]) -> list[dict[str, Any]]:
    """The job's own etcd: one Pod, which only Pods of the job can reach. Its data goes with the Pod."""
    if not job.etcd.deploy:
        return []
    own, labels = pod_labels(job), naming.labels(job.name, "etcd") | dict(job.labels)
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(job, name(job), labels),
        "spec": {
            "podSelector": {"matchLabels": own},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": naming.selector(job.name)}}],
                    "ports": [{"protocol": "TCP", "port": PORT}],
                }
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job, name(job), labels),
        "spec": {"selector": own, "ports": [{"name": "client", "port": PORT, "targetPort": "client"}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(job, name(job), labels),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": own},
            "template": {
                "metadata": {"labels": own | dict(job.labels)},
                "spec": _pod(job, security, container_security),
            },
        },
    }
    return [policy, service, deployment]


def _pod(job: JobTemplate, security: dict[str, Any], container_security: dict[str, Any]) -> dict[str, Any]:
    url = f"http://0.0.0.0:{PORT}"
    resources = job.etcd.resources.manifest()
    container = {
        "name": "etcd",
        "image": job.etcd.image,
        "command": [
            "etcd",
            f"--name={name(job)}",
            f"--data-dir={_DATA}/data",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls=http://{name(job)}:{PORT}",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=5m",
        ],
        "ports": [{"name": "client", "containerPort": PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": "client"},
            "periodSeconds": 2,
            "failureThreshold": 10,
        },
        "securityContext": container_security,
        "volumeMounts": [{"name": "data", "mountPath": _DATA}],
    }
    container |= {"resources": resources} if resources else {}
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    for field, value in (
        ("nodeSelector", dict(job.node_selector)),
        ("tolerations", [toleration.manifest() for toleration in job.tolerations]),
        ("imagePullSecrets", [{"name": each} for each in dict.fromkeys(job.image_pull_secrets)]),
        ("priorityClassName", job.scheduling.priority_class),
    ):
        spec |= {field: value} if value else {}
    return spec
