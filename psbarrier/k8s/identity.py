"""Identity: how a Pod learns which task it is, of which run, and under which address. All of it comes from Kubernetes.

| kind | task | run |
|---|---|---|
| one Indexed Job | the completion index is the slot: a number over all roles, in the order of their names | the Job's uid |
| an Indexed Job for each role | the completion index is the index | named by the submission |
| bare Pods | written into each | named by the submission |
| JobSet | the completion index is the index | the JobSet's uid, and how often it was started again |
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from psbarrier.k8s import naming

_JOB_UID = "metadata.labels['batch.kubernetes.io/controller-uid']"
_SET_UID = "metadata.labels['jobset.sigs.k8s.io/jobset-uid']"
_SET_RESTART = "metadata.labels['jobset.sigs.k8s.io/restart-attempt']"
_INDEX = f"metadata.annotations['{naming.INDEX}']"


def from_field(name: str, path: str) -> dict[str, Any]:
    """A variable that the kubelet reads from the Pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def literal(name: str, value: object) -> dict[str, Any]:
    """A variable with exactly this text: Kubernetes would read `$(…)` in it."""
    return {"name": name, "value": str(value).replace("$", "$$")}


@frozen
class Identity:
    """Who the Pods of one Pod template are. `role` None: all roles, by slot. `index` None: by the completion index.

    `run` None: from the Job or JobSet. `host` is the Pod's name in the DNS, below the Service; "$(…)" in it is the index.
    """

    role: str | None
    host: str
    run: str | None = None
    index: int | None = None
    in_set: bool = False

    @property
    def component(self) -> str:
        """The value of app.kubernetes.io/component."""
        return self.role or "task"

    def variables(self) -> list[dict[str, Any]]:
        """Those that say which task of which run a process is."""
        return [*self._run(), *self._task()]

    def _run(self) -> list[dict[str, Any]]:
        if self.run is not None:
            return [literal("PSBARRIER_RUN", self.run)]
        if self.in_set:
            return [
                from_field("PSBARRIER_JOBSET_UID", _SET_UID),
                from_field("PSBARRIER_JOBSET_RESTART", _SET_RESTART),
                {"name": "PSBARRIER_RUN", "value": "$(PSBARRIER_JOBSET_UID)-$(PSBARRIER_JOBSET_RESTART)"},
            ]
        return [from_field("PSBARRIER_RUN", _JOB_UID)]

    def _task(self) -> list[dict[str, Any]]:
        if self.role is None:
            return [from_field("PSBARRIER_SLOT", _INDEX)]
        index = from_field("PSBARRIER_INDEX", _INDEX) if self.index is None else literal("PSBARRIER_INDEX", self.index)
        return [literal("PSBARRIER_ROLE", self.role), index]


def address(kind: str, identity: Identity, service: str, port: int) -> list[dict[str, Any]]:
    """The variables that say where the others find a task; they stand behind those of `identity`."""
    if kind == "dns":
        return [{"name": "PSBARRIER_ADDRESS", "value": f"{identity.host}.{service}:{port}"}]
    form = "[$(PSBARRIER_POD_IP)]" if kind == "ipv6" else "$(PSBARRIER_POD_IP)"
    return [
        from_field("PSBARRIER_POD_IP", "status.podIP"),
        {"name": "PSBARRIER_ADDRESS", "value": f"{form}:{port}"},
    ]
