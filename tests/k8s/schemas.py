"""Strict schemas: Kubernetes' own for each version, and ours for the fields used of what others define."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource

VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
FOLDER = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


@functools.cache
def _folder(version: str) -> Path:
    (found,) = FOLDER.glob(f"v{version}*-local-strict")
    return found


@functools.cache
def _registry(version: str) -> Registry[Any]:
    definitions = Resource.from_contents(json.loads((_folder(version) / "_definitions.json").read_text()))
    return definitions @ Registry()


@functools.cache
def _validator(version: str, kind: str, api: str) -> Any:
    group, _, plain = api.rpartition("/")
    own = f"{group.partition('.')[0]}-{plain}" if group else plain
    schema = json.loads((_folder(version) / f"{kind.lower()}-{own}.json").read_text())
    registry = Resource.from_contents(schema) @ _registry(version)
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}
_ANY = {"type": "object"}
# Of https://github.com/kubernetes-sigs/jobset, api/jobset/v1alpha2; the Jobs in it are checked as Jobs.
_JOBSET = _closed(
    "replicatedJobs",
    network=_closed(
        enableDNSHostnames={"type": "boolean"}, subdomain=_TEXT, publishNotReadyAddresses={"type": "boolean"}
    ),
    successPolicy=_closed(
        "operator", operator={"enum": ["All", "Any"]}, targetReplicatedJobs={"type": "array", "items": _TEXT}
    ),
    failurePolicy=_closed(maxRestarts=_WHOLE),
    ttlSecondsAfterFinished=_WHOLE,
    replicatedJobs={
        "type": "array",
        "minItems": 1,
        "items": _closed(
            "name", "template", name=_TEXT, replicas=_WHOLE, template=_closed("spec", metadata=_ANY, spec=_ANY)
        ),
    },
)
_POD_GROUP = _closed("minMember", minMember={"type": "integer", "minimum": 1}, queue=_TEXT)
_FOREIGN = {
    "jobset.x-k8s.io/v1alpha2": _JOBSET,
    "scheduling.volcano.sh/v1beta1": _POD_GROUP,
    "scheduling.x-k8s.io/v1alpha1": _closed("minMember", minMember={"type": "integer", "minimum": 1}),
}


def validate(each: dict[str, Any], version: str) -> None:
    """Raises jsonschema.ValidationError when the schema of that version of Kubernetes refuses the object."""
    api, kind = each["apiVersion"], each["kind"]
    if api not in _FOREIGN:
        _validator(version, kind, api).validate(each)
        return
    whole = _closed("metadata", "spec", apiVersion=_TEXT, kind=_TEXT, metadata=_ANY, spec=_FOREIGN[api])
    jsonschema.Draft202012Validator(whole).validate(each)
    for role in each["spec"].get("replicatedJobs", []):
        _validator(version, "Job", "batch/v1").validate({"apiVersion": "batch/v1", "kind": "Job", **role["template"]})
