"""What a child finds in its environment. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from psbarrier import emit
from psbarrier.errors import InvalidArgumentError
from psbarrier.protocol.handover import VARIABLE, Handover
from psbarrier.settings import READ
from psbarrier.spec import ClusterSpec, Replicas, Task

LARGEST = 128 * 1024
"""Bytes that Linux allows for one variable, with its name, the "=" and the final zero."""


def as_json(spec: ClusterSpec) -> dict[str, Any]:
    """The spec as it stands in PSBARRIER_CLUSTER_FILE."""
    members = [
        {"task": str(m.task), "address": m.address, "incarnation": m.incarnation, "meta": dict(m.meta)}
        for m in spec.members
    ]
    return {"job": spec.job, "run": spec.run, "epoch": spec.epoch, "cluster": spec.as_dict(), "members": members}


def cluster_file(spec: ClusterSpec) -> str:
    """The text of PSBARRIER_CLUSTER_FILE."""
    return json.dumps(as_json(spec), separators=(",", ":")) + "\n"


def inherited(base: Mapping[str, str]) -> dict[str, str]:
    """`base` without what psbarrier itself reads: a child is told that anew, and a grandchild is nobody's task."""
    return {name: value for name, value in base.items() if name not in READ or name == "PSBARRIER_ETCD"}


def emitted(formats: Iterable[str], spec: ClusterSpec, task: Task) -> dict[str, str]:
    """What the formats, and always psbarrier's own, say of `task`.

    Raises InvalidArgumentError when one of them cannot take the spec, or would need a variable that Linux refuses.
    """
    variables: dict[str, str] = {}
    for name in dict.fromkeys(["psbarrier", *formats]):
        variables |= emit.environment(name, spec, task)
    for name, value in variables.items():
        size = len(f"{name}={value}".encode()) + 1
        if size > LARGEST:
            raise InvalidArgumentError(
                f"{name} for the {len(spec.members)} tasks of job {spec.job!r} would be {size} bytes long, and Linux "
                f"allows {LARGEST} for one variable: leave out the --emit that makes it and let the command read the "
                "JSON file that PSBARRIER_CLUSTER_FILE names, or use shorter addresses"
            )
    return variables


def handed(handover: Handover) -> dict[str, str]:
    """What ties a child to the task that its launcher holds."""
    me = handover.standing
    return {
        VARIABLE: handover.pack(),
        "PSBARRIER_FENCING_TOKEN": str(me.token),
        "PSBARRIER_RESTARTS": str(me.restarts),
        "PSBARRIER_TTL": str(me.ttl),
    }


def check_formats(formats: Iterable[str], job: str, replicas: Replicas, role: str, address: str | None = None) -> None:
    """Raises InvalidArgumentError, before anybody joins, for formats that cannot take these roles, or this address of
    one of `role`."""
    addresses = {name: [f"h:{index % 65535 + 1}" for index in range(count)] for name, count in replicas.counts}
    if address is not None:
        addresses[role][0] = address
    emitted(formats, ClusterSpec.from_addresses(addresses, job=job), Task(role, 0))
