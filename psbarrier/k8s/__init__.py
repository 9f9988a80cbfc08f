"""Kubernetes: a short description of a job, the manifests that are made from it, and a thin client that submits them.

`JobTemplate` and `manifests` are pure, and need nothing but psbarrier. A job file needs PyYAML, and only the client needs
the package `kubernetes`: `pip install 'psbarrier[k8s]'` brings both.
"""

from psbarrier.k8s.manifests import manifests
from psbarrier.k8s.parts import Elastic, Etcd, Scheduling, SecretFiles, Toleration, User, Variable, Volume
from psbarrier.k8s.quantity import Resources
from psbarrier.k8s.template import JobTemplate, Role, warnings

__all__ = [
    "Elastic",
    "Etcd",
    "JobTemplate",
    "Resources",
    "Role",
    "Scheduling",
    "SecretFiles",
    "Toleration",
    "User",
    "Variable",
    "Volume",
    "manifests",
    "warnings",
]
