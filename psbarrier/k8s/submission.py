"""Submission: all objects of a job or none, and later exactly those away again.

First every object is tried on the server, which changes nothing; all that it refuses is said at once. Then they are made, the
Jobs first: these own the others, so that Kubernetes itself takes those away with the last Job. When one is refused
after all, what has been made goes away again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from psbarrier.errors import ClusterError, InvalidArgumentError
from psbarrier.k8s import naming
from psbarrier.k8s.cluster import KINDS, Cluster, Kind, kind_of
from psbarrier.k8s.manifests import Manifest, manifests, names_its_run
from psbarrier.k8s.template import JobTemplate

_OWNERS = ("Job", "JobSet")


def fresh_run() -> str:
    """A name for a run that no other submission has."""
    return f"r{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def objects_of(job: JobTemplate, kind: str, namespace: str, run: str | None = None) -> list[Manifest]:
    """What a submission makes, the owners first."""
    run = fresh_run() if run is None and names_its_run(job, kind) else run
    found = manifests(job, kind, run)
    for each in found:
        each["metadata"]["namespace"] = namespace
    return sorted(found, key=lambda each: each["kind"] not in _OWNERS)


def try_out(cluster: Cluster, objects: Sequence[Manifest]) -> list[str]:
    """Have the server check all objects; what it warns of.

    Raises ClusterError with everything that it refuses, and InvalidArgumentError when one of them is there already.
    """
    refused: list[ClusterError] = []
    there: list[str] = []
    warned: dict[str, None] = {}
    for each in objects:
        try:
            applied = cluster.apply(each, dry_run=True)
        except ClusterError as error:
            if not error.status:
                raise
            refused.append(error)
            continue
        warned |= dict.fromkeys(applied.warnings)
        if not applied.created:
            there.append(f"{each['kind']} {each['metadata']['name']!r}")
    if refused:
        raise _all(refused)
    if there:
        raise InvalidArgumentError(
            f"{', '.join(there[:3])}{' and more' if len(there) > 3 else ''} of namespace {cluster.namespace!r} would be changed, "
            "and submit only makes what is new: take the former job away with psbarrier k8s delete, or give this one another name"
        )
    return list(warned)


def _all(refused: Sequence[ClusterError]) -> ClusterError:
    """One error for all, each sentence once."""
    first = refused[0]
    sentences = list(dict.fromkeys(map(str, refused)))
    more = f"\n(and {len(sentences) - 10} more)" if len(sentences) > 10 else ""
    text = "\n".join(sentences[:10]) + more
    return ClusterError(text, status=first.status, verb=first.verb, resource=first.resource)


def make(cluster: Cluster, objects: Sequence[Manifest]) -> list[Manifest]:
    """Make all objects, or none of them; as the server has them.

    Raises ClusterError when one is refused after all; it says too what could not be taken away again.
    """
    made: list[Manifest] = []
    owners: list[dict[str, str]] = []
    try:
        for each in objects:
            owner = each["kind"] in _OWNERS
            metadata = (
                each["metadata"] if owner or not owners else {**each["metadata"], "ownerReferences": list(owners)}
            )
            applied = cluster.apply({**each, "metadata": metadata})
            if not applied.created:
                raise ClusterError(
                    f"{each['kind']} {metadata['name']!r} was made by somebody else just now", status=409
                )
            made.append(applied.object)
            if owner:
                owners.append(_reference(each, applied.object))
    except BaseException as error:
        left = _undo(cluster, made)
        if left and isinstance(error, ClusterError):
            raise ClusterError(
                f"{error}; and these could not be taken away again: {', '.join(left)}", status=error.status
            ) from error
        raise
    return made


def _reference(each: Manifest, made: Manifest) -> dict[str, str]:
    metadata = made["metadata"]
    return {"apiVersion": each["apiVersion"], "kind": each["kind"], "name": metadata["name"], "uid": metadata["uid"]}


def _undo(cluster: Cluster, made: Sequence[Manifest]) -> list[str]:
    """Take away what was made, the last first; what is left."""
    left = []
    for each in reversed(made):
        try:
            cluster.delete(each)
        except ClusterError:
            left.append(f"{each['kind']} {each['metadata']['name']!r}")
    return left


def found(cluster: Cluster, job: JobTemplate) -> list[Manifest]:
    """All objects that `submit` has made of the job and that are there, the owners first.

    A kind that the cluster does not know, or that the caller may not list and the job file does not use, is passed over.
    """
    selector = naming.as_text(naming.selector(job.name))
    usual = {kind_of(each) for each in manifests(job)} | {KINDS["v1", "Pod"]}
    return [each for kind in KINDS.values() for each in _some(cluster, kind, selector, must=kind in usual)]


def _some(cluster: Cluster, kind: Kind, selector: str, *, must: bool) -> list[dict[str, Any]]:
    try:
        every = cluster.list(kind, selector)
    except ClusterError as error:
        if error.status == 404 or (error.status == 403 and not must):
            return []
        raise
    return [
        each
        for each in every
        if not any(owner.get("controller") for owner in each["metadata"].get("ownerReferences", ()))
    ]


def remove(cluster: Cluster, objects: Sequence[Manifest], *, dry_run: bool = False) -> list[str]:
    """Delete these objects, and what they own; the names of those that were there. Raises ClusterError after trying all."""
    gone, refused = [], []
    for each in objects:
        try:
            if cluster.delete(each, dry_run=dry_run):
                gone.append(f"{each['kind'].lower()}/{each['metadata']['name']}")
        except ClusterError as error:
            if not error.status:
                raise
            refused.append(error)
    if refused:
        raise _all(refused)
    return gone
