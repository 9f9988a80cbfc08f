"""The parts of a job's description: volumes, variables, tolerations, access to etcd, scheduling, the user in the container."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from psbarrier.k8s.fields import Described, Part, part
from psbarrier.k8s.quantity import QUANTITY, Resources
from psbarrier.k8s.shape import Items, MisfitError, OneOf, Table, Text, Whole, YesNo

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
LABEL = Text(_LABEL, "write at most 63 small letters, digits and '-'", longest=63)
NAME = Text(rf"{_LABEL}(\.{_LABEL})*", "write the name of an object: small letters, digits, '-' and '.'", longest=253)
KEY = Text(r"[A-Za-z0-9._-]+", "write a key: letters, digits, '.', '_' and '-'", longest=253)
_WORD = "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
LABEL_KEY = Text(
    rf"({_LABEL}(\.{_LABEL})*/)?{_WORD}", "write a label's key, such as disk or example.com/disk", longest=253
)
LABEL_VALUE = Text(rf"({_WORD})?", "write a label's value: at most 63 letters, digits, '.', '_' and '-'", numbers=True)
ENDPOINT = Text(
    r"(https?://)?(\[[0-9A-Fa-f:.]+\]|[\w.-]+):[0-9]{1,5}", "write host:port or https://host:port, without a path"
)
PREFIX = Text(r"(/[A-Za-z0-9._-]{1,63}){1,8}", "write it as /psbarrier or /team/psbarrier")
IMAGE = Text(r"[^\s]+", "write an image, such as registry.example.com/ctr:1", longest=1024)

ETCD_IMAGE = "quay.io/coreos/etcd:v3.6.8"
SECRET_FOLDER = "/etc/psbarrier/etcd"


@frozen
class Elastic(Described):
    """How many tasks a role has, when they may come and go: the job starts with the least, and never has more than the most."""

    min: int = part(Whole(1, 100_000), "How many tasks there must be.")
    max: int = part(Whole(1, 100_000), "How many tasks there may be.")

    def check(self) -> None:
        if self.min > self.max:
            raise MisfitError.at((), f"has a min of {self.min}, more than its max of {self.max}")


@frozen
class Variable(Described):
    """An environment variable: a text, or where it comes from."""

    value: str | None = part(Text(numbers=True, longest=131072), "The text itself.", default=None)
    secret: str | None = part(NAME, "A Secret that has it under `key`.", default=None)
    config_map: str | None = part(NAME, "A ConfigMap that has it under `key`.", default=None)
    key: str | None = part(KEY, "The key in the Secret or ConfigMap.", default=None)
    field: str | None = part(
        Text(
            r"metadata\.(name|namespace|uid)|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs)",
            "write a field of the Pod, such as metadata.name",
        ),
        "A field of the Pod: metadata.name, spec.nodeName, status.podIP, …",
        default=None,
    )

    def check(self) -> None:
        given = [name for name in ("value", "secret", "config_map", "field") if getattr(self, name) is not None]
        if len(given) != 1:
            raise MisfitError.at((), "says where it comes from never or twice: give value, secret, configMap or field")
        if (given[0] in ("secret", "config_map")) != (self.key is not None):
            raise MisfitError.at((), "needs a key with a secret or configMap, and only there")

    def manifest(self, name: str) -> dict[str, Any]:
        """The entry in a container's `env`."""
        if self.value is not None:
            return {"name": name, "value": self.value}
        if self.secret is not None:
            source: dict[str, Any] = {"secretKeyRef": {"name": self.secret, "key": self.key}}
        elif self.config_map is not None:
            source = {"configMapKeyRef": {"name": self.config_map, "key": self.key}}
        else:
            source = {"fieldRef": {"fieldPath": self.field}}
        return {"name": name, "valueFrom": source}


ENV = Table(
    Text("[A-Za-z_][A-Za-z0-9_]*", "is no name of a variable: use letters, digits and '_'", longest=255),
    Part(Variable, short="value"),
)


@frozen
class Volume(Described):
    """A folder in the container, and what is in it."""

    name: str = part(LABEL, "Its name in the Pod.")
    path: str = part(Text(r"/[^:,\0]*", "write an absolute path without ':'"), "Where the container finds it.")
    claim: str | None = part(NAME, "A PersistentVolumeClaim.", default=None)
    secret: str | None = part(NAME, "A Secret; its files have mode 0400.", default=None)
    config_map: str | None = part(NAME, "A ConfigMap.", default=None)
    scratch: str | None = part(QUANTITY, "An empty folder on the node's disk, of at most this size.", default=None)
    memory: str | None = part(
        QUANTITY, "An empty folder in memory, such as /dev/shm, of at most this size.", default=None
    )
    read_only: bool = part(YesNo(), "Whether it may only be read.", default=False)
    sub_path: str | None = part(
        Text(r"(?!.*(^|/)\.\.(/|$))[^/].*", "write a path inside of the volume"),
        "The part of it that is wanted.",
        default=None,
    )

    def check(self) -> None:
        sources = ("claim", "secret", "config_map", "scratch", "memory")
        if sum(getattr(self, name) is not None for name in sources) != 1:
            raise MisfitError.at((), "holds nothing, or two things: give claim, secret, configMap, scratch or memory")

    def manifest(self) -> dict[str, Any]:
        """The entry in the Pod's `volumes`."""
        if self.claim is not None:
            return {"name": self.name, "persistentVolumeClaim": {"claimName": self.claim}}
        if self.secret is not None:
            return {"name": self.name, "secret": {"secretName": self.secret, "defaultMode": 0o400}}
        if self.config_map is not None:
            return {"name": self.name, "configMap": {"name": self.config_map}}
        if self.memory is not None:
            return {"name": self.name, "emptyDir": {"medium": "Memory", "sizeLimit": self.memory}}
        return {"name": self.name, "emptyDir": {"sizeLimit": self.scratch}}

    def mount(self) -> dict[str, Any]:
        """The entry in the container's `volumeMounts`."""
        found: dict[str, Any] = {"name": self.name, "mountPath": self.path}
        found |= {"subPath": self.sub_path} if self.sub_path is not None else {}
        return found | ({"readOnly": True} if self.read_only else {})


@frozen
class Toleration(Described):
    """A taint of nodes that a Pod bears."""

    key: str | None = part(LABEL_KEY, "The taint's key; without one, all taints.", default=None)
    operator: str | None = part(OneOf(("Equal", "Exists")), "Equal (default) or Exists.", default=None)
    value: str | None = part(LABEL_VALUE, "The taint's value, with Equal.", default=None)
    effect: str | None = part(
        OneOf(("NoSchedule", "PreferNoSchedule", "NoExecute")), "Which effect; without one, all.", default=None
    )
    toleration_seconds: int | None = part(Whole(), "How long a NoExecute is borne.", default=None)

    def check(self) -> None:
        if self.key is None and self.operator != "Exists":
            raise MisfitError.at((), "has no key: that goes with operator Exists only")
        if self.operator == "Exists" and self.value:
            raise MisfitError.at(("value",), "does not go with operator Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise MisfitError.at(("tolerationSeconds",), "goes with effect NoExecute only")

    def manifest(self) -> dict[str, Any]:
        """The entry in the Pod's `tolerations`."""
        pairs = {
            "key": self.key,
            "operator": self.operator,
            "value": self.value,
            "effect": self.effect,
            "tolerationSeconds": self.toleration_seconds,
        }
        return {name: value for name, value in pairs.items() if value is not None}


@frozen
class SecretFiles(Described):
    """Which keys the Secret with the access to etcd has."""

    ca: str | None = part(KEY, "The authorities that vouch for etcd.", default=None)
    cert: str | None = part(KEY, "This job's own certificate.", default=None)
    key: str | None = part(KEY, "The key to it.", default=None)
    password: str | None = part(KEY, "The user's password.", default=None)

    def check(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise MisfitError.at((), "needs cert and key together")
        if not self.given():
            raise MisfitError.at((), "names no key of the Secret: give ca, cert and key, or password")

    def given(self) -> dict[str, str]:
        """Those that the Secret has, by what they are."""
        pairs = {"ca": self.ca, "cert": self.cert, "key": self.key, "password": self.password}
        return {what: key for what, key in pairs.items() if key is not None}


USUAL_FILES = SecretFiles(ca="ca.crt", password="password")


@frozen
class Etcd(Described):
    """The etcd of the job: one that is there, or one that is made for it."""

    endpoints: tuple[str, ...] = part(
        Items(ENDPOINT, hint="write a list of endpoints"),
        "host:port of each member, as the Pods reach them.",
        factory=tuple,
    )
    prefix: str = part(PREFIX, "Where all keys lie.", default="/psbarrier")
    secret: str | None = part(NAME, "The Secret with the authorities and the password, mounted as files.", default=None)
    files: SecretFiles | None = part(
        Part(SecretFiles), "The Secret's keys: ca: ca.crt and password: password when none are given.", default=None
    )
    user: str | None = part(Text(), "The etcd user: psbarrier-JOB by default, where there is a password.", default=None)
    deploy: bool = part(YesNo(), "Make a small etcd for this job alone, without TLS: for development.", default=False)
    image: str = part(IMAGE, "The image of that one.", default=ETCD_IMAGE)
    resources: Resources = part(
        Part(Resources),
        "The resources of that one.",
        factory=lambda: Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "512Mi"}),
    )

    def check(self) -> None:
        if self.deploy == bool(self.endpoints):
            raise MisfitError.at((), "says where etcd is never or twice: give endpoints, or deploy: true")
        if self.deploy and (self.secret or self.files or self.user):
            raise MisfitError.at(
                (), "makes an etcd without TLS and users, so secret, files and user do not go with deploy"
            )
        if self.files is not None and self.secret is None:
            raise MisfitError.at(("files",), "are keys of a Secret, and none is named")
        schemes = {each.partition("://")[0] for each in self.endpoints if "://" in each}
        if len(schemes) > 1:
            raise MisfitError.at(("endpoints",), "mix http and https: all members of one etcd use the same")
        keys = self.keys()
        if schemes == {"http"} and keys:
            raise MisfitError.at(("endpoints",), "are http, but the Secret's certificates and password need https")
        if keys.keys() == {"password"} and schemes != {"https"}:
            raise MisfitError.at(
                ("endpoints",), "must begin with https://, for a password goes over TLS only; or give files.ca"
            )
        if self.user is not None and "password" not in keys:
            raise MisfitError.at(("user",), "has no password: name it in secret and files")

    def keys(self) -> dict[str, str]:
        """The Secret's keys, by what they are; empty without a Secret."""
        return (self.files or USUAL_FILES).given() if self.secret is not None else {}


@frozen
class Scheduling(Described):
    """What a scheduler for whole jobs reads, and priorities."""

    system: str | None = part(
        OneOf(("kueue", "volcano", "coscheduling")), "Who starts all Pods of the job together.", default=None
    )
    queue: str | None = part(NAME, "The queue of kueue or volcano.", default=None)
    priority_class: str | None = part(NAME, "The Pods' PriorityClass.", default=None)
    scheduler: str | None = part(NAME, "The scheduler, where it is not the usual one.", default=None)

    def check(self) -> None:
        if self.system == "kueue" and self.queue is None:
            raise MisfitError.at((), "names no queue, and kueue needs one")
        if self.queue is not None and self.system not in ("kueue", "volcano"):
            raise MisfitError.at(("queue",), "goes with system kueue or volcano")

    @property
    def scheduler_name(self) -> str | None:
        """Which scheduler places the Pods; None for the cluster's own."""
        return self.scheduler or ("volcano" if self.system == "volcano" else None)


@frozen
class User(Described):
    """Who the processes in the container are."""

    uid: int = part(Whole(1), "The user's number; never 0.", default=1000)
    gid: int = part(Whole(1), "The group's number, which also owns the volumes.", default=1000)
    read_only_root: bool = part(
        YesNo(), "Whether the image's files may only be read; /tmp stays writable.", default=False
    )
