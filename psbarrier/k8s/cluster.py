"""Cluster: the few requests to a Kubernetes API server that are needed, by the official client. The one importer of it.

The objects that we make are few and known, so the paths are known too: nothing is discovered, which would need requests, rights
and a cache that may be stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from attrs import frozen
from kubernetes import client, config, dynamic

from psbarrier.errors import ClusterError, InvalidArgumentError
from psbarrier.k8s.naming import MANAGER

TIMEOUT = 30.0
"""Seconds for one request."""
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_CANNOT = re.compile(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"')


@frozen
class Kind:
    """A kind of object. `plural` is its name in paths."""

    api: str
    name: str
    plural: str


KINDS: Mapping[tuple[str, str], Kind] = {
    (kind.api, kind.name): kind
    for kind in (
        Kind("jobset.x-k8s.io/v1alpha2", "JobSet", "jobsets"),
        Kind("batch/v1", "Job", "jobs"),
        Kind("v1", "Pod", "pods"),
        Kind("apps/v1", "Deployment", "deployments"),
        Kind("v1", "Service", "services"),
        Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        Kind("scheduling.volcano.sh/v1beta1", "PodGroup", "podgroups"),
        Kind("scheduling.x-k8s.io/v1alpha1", "PodGroup", "podgroups"),
    )
}
"""All that we make, owners first."""
POD, JOB = KINDS["v1", "Pod"], KINDS["batch/v1", "Job"]
EVENT = Kind("v1", "Event", "events")


def kind_of(each: Mapping[str, Any]) -> Kind:
    """The kind of an object that we make."""
    return KINDS[each["apiVersion"], each["kind"]]


@frozen
class Applied:
    """An object as the server has it. `created`: it was not there before."""

    object: dict[str, Any]
    created: bool
    warnings: tuple[str, ...] = ()


class Cluster:
    """One API server and one namespace. Each method sends one request; a ClusterError says what the server refused."""

    def __init__(self, api: Any, namespace: str) -> None:
        self.namespace = namespace
        self._client = dynamic.DynamicClient(api, discoverer=lambda *_: None)

    @classmethod
    def open(cls, namespace: str | None = None, kubeconfig: str | None = None, context: str | None = None) -> Cluster:
        """The cluster that kubectl would mean, or the one that this process runs in. Nothing is sent.

        `namespace` is by default the context's. Raises InvalidArgumentError when there is no configuration that can be used.
        """
        try:
            api = config.new_client_from_config(kubeconfig, context, persist_config=False)
            contexts, active = config.list_kube_config_contexts(kubeconfig)
            meant = next((each for each in contexts if each["name"] == context), active)
            return cls(api, namespace or meant["context"].get("namespace") or "default")
        except (config.ConfigException, OSError) as error:
            found = None if kubeconfig or context else cls._inside(namespace)
            if found is None:
                raise InvalidArgumentError(
                    f"there is no cluster to talk to: {str(error).splitlines()[0]}; name a kubeconfig with --kubeconfig or "
                    "KUBECONFIG"
                ) from error
            return found

    @classmethod
    def _inside(cls, namespace: str | None) -> Cluster | None:
        try:
            settings = client.Configuration()
            config.load_incluster_config(client_configuration=settings)
            if namespace is None:
                with open(_SERVICE_ACCOUNT, encoding="utf-8") as file:
                    namespace = file.read().strip()
            return cls(client.ApiClient(settings), namespace)
        except (config.ConfigException, OSError):
            return None

    def apply(self, each: Mapping[str, Any], *, dry_run: bool = False) -> Applied:
        """Server-side apply, strictly: a field that the server does not know is refused."""
        kind, name = kind_of(each), each["metadata"]["name"]

        def send(resource: Any) -> Any:
            return self._client.server_side_apply(
                resource,
                body=dict(each),
                namespace=self.namespace,
                field_manager=MANAGER,
                query_params=[("fieldValidation", "Strict"), *([("dryRun", "All")] if dry_run else [])],
                serialize=False,
                _request_timeout=TIMEOUT,
            )

        answer = self._ask("apply", kind, name, send)
        return Applied(json.loads(answer.data), answer.status == 201, _warnings(answer.headers))

    def list(self, kind: Kind, selector: str = "", fields: str = "") -> list[dict[str, Any]]:
        """The objects of a kind with these labels."""

        def send(resource: Any) -> Any:
            return self._client.get(
                resource,
                namespace=self.namespace,
                label_selector=selector or None,
                field_selector=fields or None,
                serialize=False,
                _request_timeout=TIMEOUT,
            )

        items = json.loads(self._ask("list", kind, "", send).data)["items"]
        return [{"apiVersion": kind.api, "kind": kind.name, **each} for each in items]

    def delete(self, each: Mapping[str, Any], *, dry_run: bool = False) -> bool:
        """Delete exactly this object, by its uid, and in the background what it owns; False when it is gone already."""
        metadata = each["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": metadata["uid"]},
            **({"dryRun": ["All"]} if dry_run else {}),
        }

        def send(resource: Any) -> Any:
            return self._client.delete(
                resource,
                name=metadata["name"],
                namespace=self.namespace,
                body=body,
                serialize=False,
                _request_timeout=TIMEOUT,
            )

        try:
            self._ask("delete", kind_of(each), metadata["name"], send)
        except ClusterError as error:
            if error.status in (404, 409):  # 409: another one has its name by now
                return False
            raise
        return True

    def _ask(self, verb: str, kind: Kind, name: str, send: Callable[[Any], Any]) -> Any:
        group, _, version = kind.api.rpartition("/")
        resource = dynamic.Resource(
            prefix="apis" if group else "api",
            group=group,
            api_version=version,
            kind=kind.name,
            namespaced=True,
            name=kind.plural,
            client=self._client,
        )
        what = f"{kind.name} {name!r}" if name else f"the {kind.plural} of namespace {self.namespace!r}"
        try:
            return send(resource)
        except dynamic.exceptions.DynamicApiError as error:
            raise _refusal(error, verb, what, kind, self.namespace) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            host = self._client.configuration.host
            raise ClusterError(
                f"the API server {host} cannot be reached: {_short(error)}; check the kubeconfig and the network"
            ) from error


def _refusal(error: Any, verb: str, what: str, kind: Kind, namespace: str) -> ClusterError:
    """The error in a sentence that says what to do."""
    status, said = int(error.status or 0), _message(error)
    cannot = _CANNOT.search(said)
    if status == 403 and cannot:
        right, resource, group = cannot.groups()
        full = f"{resource}.{group}" if group else resource
        return ClusterError(
            f"you may not {right} {full} in namespace {namespace!r}: ask for a Role with the verb {right!r} on the resource "
            f"{full!r}",
            status=status,
            verb=right,
            resource=full,
        )
    if status == 401:
        return ClusterError(f"the API server does not know who you are: log in again ({said})", status=status)
    if (
        status == 404
        and verb != "delete"
        and ("could not find the requested resource" in said or "page not found" in said)
    ):
        return ClusterError(
            f"this cluster has no {kind.plural}.{kind.api}: install what defines it, or use another --kind",
            status=status,
        )
    return ClusterError(f"Kubernetes refuses to {verb} {what}: {said}", status=status, verb=verb, resource=kind.plural)


def _message(error: Any) -> str:
    """What the server said, as its Status object has it, in one line."""
    body = error.body
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or error.reason or "")
    try:
        found = json.loads(text)
    except ValueError:
        found = {}
    said = found.get("message") if isinstance(found, dict) else None
    return " ".join(str(said or text or f"status {error.status}").split())[:1000]


def _short(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[:200]


def _warnings(headers: Any) -> tuple[str, ...]:
    """What the server warns of: `299 - "unknown field"`, once for each header."""
    values = headers.getlist("Warning") if hasattr(headers, "getlist") else []
    return tuple(text for value in values for text in re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', value))
