"""What the API server checks beyond its schema, as far as it concerns what psbarrier makes.

From Kubernetes' own validation of Jobs, Pods and Services (pkg/apis/{batch,core}/validation), and from Pod Security's profile
"restricted" (https://kubernetes.io/docs/concepts/security/pod-security-standards/). The real judge is an API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

LABEL = re.compile("[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")
VALUE = re.compile("(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def broken(objects: list[Object]) -> list[str]:
    """Every rule that a set of manifests breaks, a sentence each."""
    found = [problem for each in objects for problem in _object(each)]
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    return found + (["two objects have one name"] if len(set(names)) < len(names) else [])


def pod_specs(each: Object) -> Iterator[tuple[Object, Object]]:
    """The metadata and the spec of each kind of Pod that an object makes, and of the Pod that it is."""
    spec = each.get("spec", {})
    if each["kind"] == "Pod":
        yield each["metadata"], spec
    elif each["kind"] in ("Job", "Deployment"):
        yield spec["template"]["metadata"], spec["template"]["spec"]
    elif each["kind"] == "JobSet":
        for role in spec["replicatedJobs"]:
            template = role["template"]["spec"]["template"]
            yield template["metadata"], template["spec"]


def jobs(each: Object) -> Iterator[tuple[str, Object]]:
    """The name and the spec of each Job that an object makes or is."""
    name, spec = each["metadata"]["name"], each.get("spec", {})
    if each["kind"] == "Job":
        yield name, spec
    elif each["kind"] == "JobSet":
        for role in spec["replicatedJobs"]:
            yield f"{name}-{role['name']}-{role['replicas'] - 1}", role["template"]["spec"]


def _object(each: Object) -> Iterator[str]:
    yield from _metadata(each["metadata"], SERVICE if each["kind"] in ("Service", "JobSet") else LABEL)
    for name, spec in jobs(each):
        yield from _job(name, spec)
    for metadata, spec in pod_specs(each):
        yield from _metadata({"name": "x", **metadata}, LABEL)
        yield from _pod(spec)
        yield from _restricted(spec)
    if each["kind"] == "Service":
        ports = each["spec"].get("ports", [])
        if not ports and each["spec"].get("clusterIP") != "None":
            yield "a Service without ports must be headless"


def _metadata(metadata: Object, form: re.Pattern[str]) -> Iterator[str]:
    if not form.fullmatch(metadata["name"]) or len(metadata["name"]) > 63:
        yield f"name {metadata['name']!r}"
    for table in (metadata.get("labels", {}), metadata.get("annotations", {})):
        for key in table:
            prefix, _, name = key.rpartition("/")
            if not VALUE.fullmatch(name) or not 0 < len(name) <= 63 or len(prefix) > 253:
                yield f"key {key!r}"
    for value in metadata.get("labels", {}).values():
        if not VALUE.fullmatch(value) or len(value) > 63:
            yield f"label value {value!r}"


def _job(name: str, spec: Object) -> Iterator[str]:
    completions = spec["completions"]
    last = f"{name}-{completions - 1}"
    if spec["completionMode"] == "Indexed" and (len(last) > 63 or not LABEL.fullmatch(last)):
        yield f"the host name of the last Pod, {last!r}"
    if len(f"{last}-xxxxx") > 63:
        yield f"the name of the last Pod, {last}-xxxxx, as JobSet checks it"
    if completions > 100_000 or spec["parallelism"] > 100_000:
        yield "completions"
    if spec.get("maxFailedIndexes") is not None and "backoffLimitPerIndex" not in spec:
        yield "maxFailedIndexes needs backoffLimitPerIndex"
    policy = spec["podFailurePolicy"]
    if spec["podReplacementPolicy"] != "Failed" or spec["template"]["spec"]["restartPolicy"] != "Never":
        yield "podFailurePolicy needs podReplacementPolicy Failed and restartPolicy Never"
    containers = {container["name"] for container in spec["template"]["spec"]["containers"]}
    for rule in policy["rules"]:
        if ("onExitCodes" in rule) == ("onPodConditions" in rule):
            yield "a rule is about exit codes or about conditions"
        codes = rule.get("onExitCodes", {"values": [1], "containerName": next(iter(containers))})
        values = codes["values"]
        if values != sorted(set(values)) or 0 in values or not 1 <= len(values) <= 255:
            yield f"exit codes {values}"
        if codes["containerName"] not in containers:
            yield f"no container {codes['containerName']}"
    for rule in spec.get("successPolicy", {"rules": []})["rules"]:
        yield from _indexes(rule["succeededIndexes"], completions)


def _indexes(text: str, completions: int) -> Iterator[str]:
    last = -1
    for part in text.split(","):
        first, _, end = part.partition("-")
        low, high = int(first), int(end or first)
        if not (last < low <= high < completions) or (end and low == high):
            yield f"succeededIndexes {text}"
        last = high


def _pod(spec: Object) -> Iterator[str]:
    for name in ("hostname", "subdomain"):
        if name in spec and (not LABEL.fullmatch(spec[name]) or len(spec[name]) > 63):
            yield f"{name} {spec[name]!r}"
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    if len(set(volumes)) < len(volumes):
        yield "two volumes have one name"
    for volume in spec.get("volumes", []):
        sources = volume.keys() - {"name"}
        if len(sources) != 1 or not sources <= RESTRICTED_VOLUMES or not LABEL.fullmatch(volume["name"]):
            yield f"volume {volume}"
    for container in spec["containers"]:
        mounts = container.get("volumeMounts", [])
        if len({mount["mountPath"] for mount in mounts}) < len(mounts):
            yield "two volumes are at one path"
        if not {mount["name"] for mount in mounts} <= set(volumes):
            yield "a mount without its volume"
        names = [variable["name"] for variable in container.get("env", [])]
        if len(set(names)) < len(names) or not all(re.fullmatch("[-._a-zA-Z][-._a-zA-Z0-9]*", name) for name in names):
            yield f"variables {names}"
        for port in container.get("ports", []):
            if not 0 < port["containerPort"] < 65536 or len(port["name"]) > 15:
                yield f"port {port}"
        yield from _earlier(container.get("env", []))


def _earlier(variables: list[Object]) -> Iterator[str]:
    """Kubernetes expands $(NAME) from what stands before, and leaves it as it is otherwise."""
    known: set[str] = set()
    for variable in variables:
        value = variable.get("value", "").replace("$$", "")
        if variable["name"].startswith("PSBARRIER_"):
            for name in re.findall(r"\$\(([^)]*)\)", value):
                if name not in known:
                    yield f"{variable['name']} needs {name}, which does not stand before it"
        known.add(variable["name"])


def _restricted(spec: Object) -> Iterator[str]:
    pod = spec["securityContext"]
    if not pod["runAsNonRoot"] or pod["runAsUser"] == 0 or pod["seccompProfile"]["type"] != "RuntimeDefault":
        yield "restricted: the user, or the system calls"
    if spec["automountServiceAccountToken"] or any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "the Pod is given more than it needs"
    for container in spec["containers"] + spec.get("initContainers", []):
        security = container["securityContext"]
        if security["allowPrivilegeEscalation"] or security["capabilities"] != {"drop": ["ALL"]}:
            yield "restricted: privileges"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield "restricted: a port of the host"
