"""A small API server in this process: the verbs that the client uses, over HTTP, as Kubernetes documents them.

It is no fake of ours but of Kubernetes': the official client speaks to it. It stores what is applied, checks it strictly by
Kubernetes' own schemas, tells a dry run from a real one, knows users' missing rights, and takes what has lost its owners away.
https://kubernetes.io/docs/reference/using-api/api-concepts/ and .../server-side-apply/
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

from k8s import schemas

Object = dict[str, Any]

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)/namespaces/(?P<ns>[^/]+)/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?"
)
OWNER, NOBODY = "t0ken", "n0body"
KINDS = {
    "jobs.batch": "Job",
    "pods": "Pod",
    "deployments.apps": "Deployment",
    "services": "Service",
    "networkpolicies.networking.k8s.io": "NetworkPolicy",
    "events": "Event",
    "serviceaccounts": "ServiceAccount",
}


class Refused(Exception):  # noqa: N818  # it is an answer of the server's
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news."""


class FakeApi:
    """`denied` holds rights that the user lacks, ("create", "pods"); `refused` holds names that only a real apply, and no dry
    run, refuses, with the reason; `warnings` go out with every apply. `objects` is what is stored, `requests` what was asked."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.denied: set[tuple[str, str]] = set()
        self.refused: dict[str, str] = {}
        self.warnings: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self.kinds = dict(KINDS)
        self._nobody = False
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, folder: Path, namespace: str = "ads") -> str:
        """A file that leads here."""
        path = folder / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [{"name": "here", "cluster": {"server": self.url}}],
                    "users": [{"name": "me", "user": {"token": OWNER}}],
                    "contexts": [
                        {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}
                    ],
                }
            )
        )
        return str(path)

    def names(self) -> list[str]:
        """What is stored, as kind/name."""
        return sorted(f"{each['kind']}/{each['metadata']['name']}" for each in self.objects.values())

    def put(self, resource: str, each: Object, namespace: str = "ads") -> Object:
        """Store an object as a controller would have made it."""
        metadata = each["metadata"]
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        metadata["namespace"] = namespace
        self.objects[resource, namespace, metadata["name"]] = each
        return each

    # -- what is asked

    def _token(self, path: str, body: bytes) -> Object:
        """A new ServiceAccount, or a token of one; it may nothing."""
        if path.endswith("/token"):
            return {"kind": "TokenRequest", "status": {"token": NOBODY}}
        return self.put("serviceaccounts", json.loads(body))

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Object]:
        match = _PATH.fullmatch(path)
        if match is None:
            raise Refused(404, "404 page not found")
        group, namespace, name = match["group"] or "", match["ns"], match["name"] or ""
        resource = f"{match['plural']}.{group}" if group else match["plural"]
        with self._lock:
            if method == "GET":
                self._may("list", resource, group, namespace)
                return 200, self._list(resource, namespace, query)
            dry = "All" in query.get("dryRun", [])
            if method == "PATCH":
                return self._apply(resource, group, namespace, name, yaml.safe_load(body), query, dry)
            assert method == "DELETE", method
            self._may("delete", resource, group, namespace)
            return 200, self._delete(resource, namespace, name, json.loads(body or b"{}"), dry)

    def _may(self, verb: str, resource: str, group: str, namespace: str) -> None:
        plural = resource.partition(".")[0]
        if self._nobody or (verb, plural) in self.denied:
            raise Refused(
                403,
                f'{resource} is forbidden: User "me" cannot {verb} resource "{plural}" in API group "{group}" in the namespace '
                f'"{namespace}"',
            )
        if resource not in self.kinds:
            raise Refused(404, "the server could not find the requested resource")

    def _apply(
        self,
        resource: str,
        group: str,
        namespace: str,
        name: str,
        given: Object,
        query: dict[str, list[str]],
        dry: bool,
    ) -> tuple[int, Object]:
        assert query["fieldManager"] == ["psbarrier"]
        assert query["fieldValidation"] == ["Strict"]
        self._may("patch", resource, group, namespace)
        there = self.objects.get((resource, namespace, name))
        if there is None:
            self._may("create", resource, group, namespace)
        if given["metadata"].get("namespace", namespace) != namespace or given["metadata"]["name"] != name:
            raise Refused(400, "the name or namespace of the object and of the path differ")
        self._check(given)
        if name in self.refused and not dry:
            raise Refused(422, f'{given["kind"]} "{name}" is invalid: {self.refused[name]}')
        found = json.loads(json.dumps(there or given)) | {"spec": given["spec"]}
        found["metadata"] |= {"uid": there["metadata"]["uid"] if there else str(uuid.uuid4()), "namespace": namespace}
        if not dry:
            self.put(resource, found, namespace)
        return (200 if there else 201), found

    def _check(self, given: Object) -> None:
        try:
            schemas.validate(given, schemas.VERSIONS[-1])
        except jsonschema.ValidationError as error:
            raise Refused(400, f"strict decoding error: {error.message}") from error

    def _list(self, resource: str, namespace: str, query: dict[str, list[str]]) -> Object:
        wanted = dict(part.split("=", 1) for part in query.get("labelSelector", [""])[0].split(",") if part)
        fields = dict(part.split("=", 1) for part in query.get("fieldSelector", [""])[0].split(",") if part)
        items = [
            each
            for (kind, space, _), each in self.objects.items()
            if (kind, space) == (resource, namespace)
            and wanted.items() <= each["metadata"].get("labels", {}).items()
            and all(str(each.get(key)) == value for key, value in fields.items())
        ]
        # In a list, the items do not say what they are.
        return {
            "kind": "List",
            "items": [{k: v for k, v in i.items() if k not in ("kind", "apiVersion")} for i in items],
        }

    def _delete(self, resource: str, namespace: str, name: str, options: Object, dry: bool) -> Object:
        there = self.objects.get((resource, namespace, name))
        if there is None:
            raise Refused(404, f'{resource} "{name}" not found')
        uid = options.get("preconditions", {}).get("uid")
        if uid not in (None, there["metadata"]["uid"]):
            raise Refused(409, "the UID in the precondition does not match")
        if not dry and options.get("dryRun") != ["All"]:
            del self.objects[resource, namespace, name]
            self._collect()
        return {"kind": "Status", "status": "Success"}

    def _collect(self) -> None:
        """Take away what had owners and has none left."""
        alive = {each["metadata"]["uid"] for each in self.objects.values()}
        for key, each in list(self.objects.items()):
            owners = each["metadata"].get("ownerReferences", [])
            if owners and not any(owner["uid"] in alive for owner in owners):
                del self.objects[key]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                api.requests.append((self.command, self.path))
                who = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                if who not in (OWNER, NOBODY):
                    self.answer(401, {"kind": "Status", "message": "Unauthorized"})
                    return
                if self.command == "POST":
                    self.answer(201, api._token(parts.path, body))
                    return
                api._nobody = who == NOBODY
                try:
                    status, found = api._answer(self.command, parts.path, parse_qs(parts.query), body)
                except Refused as refused:
                    status, found = (
                        refused.status,
                        {"kind": "Status", "code": refused.status, "message": refused.message},
                    )
                self.answer(status, found)

            def answer(self, status: int, found: Object) -> None:
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for text in api.warnings:
                    self.send_header("Warning", f'299 - "{text}"')
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815  # so the base class calls them

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler


if __name__ == "__main__":  # to try the tests for a real cluster on, in a folder that is named
    import sys

    with FakeApi() as server:
        server.kinds["jobsets.jobset.x-k8s.io"] = "JobSet"
        server.kinds["podgroups.scheduling.volcano.sh"] = "PodGroup"
        server.kubeconfig(Path(sys.argv[1]))
        threading.Event().wait()
