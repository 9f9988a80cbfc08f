"""Every value that psbarrier writes to etcd, as a frozen record with its two directions, `pack` and `unpack`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Literal

from attrs import field, frozen

from psbarrier.arguments import check_json
from psbarrier.policy import Policy
from psbarrier.protocol.codec import LARGE, Fields, decode, encode, moment, whole_text
from psbarrier.spec import MAX_TASKS, ClusterSpec, MemberSpec, Replicas, Task, check_address, check_name
from psbarrier.state import JobState


@frozen
class Config:
    """What all members of a run must agree on; compared byte by byte."""

    replicas: Replicas
    policy: Policy = field(factory=Policy)

    def as_dict(self) -> dict[str, Any]:
        return {"replicas": self.replicas.as_dict(), "policy": self.policy.as_dict()}

    def pack(self) -> bytes:
        return encode(self.as_dict())

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Config:
        def build(fields: Fields) -> Config:
            policy = Fields(fields.mapping("policy"))
            policy.whole("max_restarts")
            return cls(Replicas.of(fields.mapping("replicas")), Policy.from_dict(fields.mapping("policy")))

        return decode(key, value, build, most=LARGE)


_REGISTRATION = 16 * 1024
"""Bytes of a registration: it stands in the spec, which must fit into one request."""


@frozen
class Founded:
    """When a run was founded: seconds since 1970, by the clock of the process that did it. etcd keeps no times."""

    since: float

    def pack(self) -> bytes:
        return encode({"since": self.since})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Founded:
        return decode(key, value, lambda f: cls(f.number("since")))


@frozen
class Registration:
    """One incarnation of a task. `ttl` is its lease's, in seconds. `finished` is when it finished, or 0."""

    address: str
    incarnation: str
    host: str = ""
    pid: int = 0
    ttl: int = 0
    meta: Mapping[str, Any] = field(factory=dict)
    attached: int = 0
    finished: float = 0.0

    def pack(self) -> bytes:
        fields = {name: getattr(self, name) for name in ("address", "incarnation", "host", "pid", "ttl")}
        optional = {name: getattr(self, name) for name in ("meta", "attached", "finished") if getattr(self, name)}
        return encode({**fields, **optional})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Registration:
        return decode(
            key,
            value,
            lambda f: cls(
                check_address(f.text("address")),
                f.text("incarnation"),
                f.text("host"),
                f.whole("pid"),
                f.whole("ttl"),
                f.json("meta", {}),
                f.whole("attached", 0),
                f.time("finished", 0.0),
            ),
            most=_REGISTRATION,
        )

    @property
    def holder(self) -> str:
        """Who this is, for messages."""
        return f"process {self.attached or self.pid} on {self.host} ({self.address})"


@frozen
class Leader:
    """Which incarnation of which task leads now."""

    task: str
    incarnation: str

    def pack(self) -> bytes:
        return encode({"task": self.task, "incarnation": self.incarnation})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Leader:
        return decode(key, value, lambda f: cls(f.text("task"), f.text("incarnation")))


@frozen
class Seal:
    """The announcement of a cluster spec: small, for it goes to everyone. `tasks`, only where a role is elastic, are the
    members: a barrier counts them, and who is not among them any more is not waited for."""

    epoch: int
    size: int
    sha256: str
    tasks: frozenset[Task] | None = None

    @classmethod
    def of(cls, epoch: int, body: bytes, tasks: Iterable[Task] | None = None) -> Seal:
        members = None if tasks is None else frozenset(tasks)
        return cls(epoch, len(body), hashlib.sha256(body).hexdigest(), members)

    def pack(self) -> bytes:
        members = {} if self.tasks is None else {"tasks": pack_indices(self.tasks)}
        return encode({"epoch": self.epoch, "size": self.size, "sha256": self.sha256, **members})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Seal:
        def build(fields: Fields) -> Seal:
            tasks = unpack_indices(fields.mapping("tasks")) if fields.has("tasks") else None
            return cls(fields.whole("epoch"), fields.whole("size"), fields.text("sha256"), tasks)

        return decode(key, value, build)


def pack_spec(spec: ClusterSpec) -> bytes:
    """The body of an epoch."""
    members = [
        [str(m.task), m.address, m.incarnation, dict(m.meta)] if m.meta else [str(m.task), m.address, m.incarnation]
        for m in spec.members
    ]
    return encode({"job": spec.job, "run": spec.run, "epoch": spec.epoch, "members": members})


_NO_META = 3  # items of a member's row


def unpack_spec(key: str, value: bytes) -> ClusterSpec:
    """The reverse of `pack_spec`."""

    def member(row: Any) -> MemberSpec:
        task, address, incarnation, meta = (*row, {}) if len(row) == _NO_META else row
        if not (isinstance(incarnation, str) and isinstance(task, str) and isinstance(meta, dict)):
            raise TypeError(f"{row!r:.80} is no member")
        if meta:
            check_json(meta)
        return MemberSpec(Task.parse(task), check_address(address), whole_text(incarnation), meta)

    def build(fields: Fields) -> ClusterSpec:
        members = tuple([member(row) for row in fields.listed("members")])
        places = [(each.task.role, each.task.index) for each in members]  # to compare tasks takes Python code
        if any(before >= after for before, after in pairwise(places)):
            raise ValueError("its members are not in the order of their tasks")
        return ClusterSpec(fields.text("job"), fields.text("run"), fields.whole("epoch"), members)

    return decode(key, value, build, most=LARGE)


@frozen
class Loss:
    """A task that is away: which incarnation, since when (seconds since 1970, by the leader's clock), and why."""

    incarnation: str
    since: float
    why: str


@frozen
class Gone:
    """Who is not there: lost, finished, and, before the first seal, not there yet (the first few, and how many)."""

    lost: Mapping[Task, Loss] = field(factory=dict)
    finished: frozenset[Task] = frozenset()
    absent: tuple[Task, ...] = ()
    absent_count: int = 0

    def pack(self) -> bytes:
        lost = {str(task): [loss.incarnation, loss.since, loss.why] for task, loss in self.lost.items()}
        absent = {"first": [str(task) for task in self.absent], "count": self.absent_count}
        return encode({"lost": lost, "finished": pack_indices(self.finished), "absent": absent})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Gone:
        def loss(row: Any) -> Loss:
            incarnation, since, why = row
            if not (isinstance(incarnation, str) and isinstance(why, str) and type(since) in (int, float)):
                raise TypeError(f"{row!r:.80} is no loss")
            return Loss(whole_text(incarnation), moment(float(since)), whole_text(why))

        def build(fields: Fields) -> Gone:
            absent = Fields(fields.mapping("absent"))
            return cls(
                {Task.parse(task): loss(row) for task, row in fields.mapping("lost").items()},
                unpack_indices(fields.mapping("finished")),
                tuple(Task.parse(text) for text in absent.texts("first")),
                absent.whole("count"),
            )

        return decode(key, value, build, most=LARGE)


def pack_indices(tasks: Iterable[Task]) -> dict[str, str]:
    """Tasks by role, as ranges: {"worker": "0-3,7"}."""
    ranges: dict[str, list[list[int]]] = {}
    for task in sorted(tasks):
        spans = ranges.setdefault(task.role, [])
        if spans and spans[-1][1] == task.index - 1:
            spans[-1][1] = task.index
        else:
            spans.append([task.index, task.index])
    return {
        role: ",".join(f"{first}-{last}" if first != last else str(first) for first, last in spans)
        for role, spans in ranges.items()
    }


def unpack_indices(packed: Mapping[str, Any]) -> frozenset[Task]:
    """The reverse of `pack_indices`."""
    tasks: list[Task] = []
    for role, text in packed.items():
        if not isinstance(text, str):
            raise TypeError(f"{text!r:.40} is no range of indices")
        for span in text.split(","):
            match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", span)
            low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if low > high or len(tasks) + high - low >= MAX_TASKS:
                raise ValueError(f"{span!r:.40} is no range of indices, or there are too many")
            tasks += [Task(role, index) for index in range(low, high + 1)]
    return frozenset(tasks)


def pack_state(state: JobState) -> bytes:
    """A terminal state; a running job has none."""
    return encode(
        {"phase": state.phase, "by": state.by, "reason": state.reason, "exit": state.exit_code, "since": state.since}
    )


def unpack_state(key: str, value: bytes) -> JobState:
    """The reverse of `pack_state`."""

    def build(fields: Fields) -> JobState:
        phase = fields.text("phase")
        if phase not in ("succeeded", "failed"):
            raise ValueError(f"phase {phase!r:.40}")
        how: Literal["succeeded", "failed"] = "succeeded" if phase == "succeeded" else "failed"
        return JobState(how, fields.text("by"), fields.text("reason"), fields.whole("exit"), fields.time("since"))

    return decode(key, value, build)


@frozen
class Departure:
    """How an incarnation went away other than by finishing: it crashed, or it was told to leave."""

    incarnation: str
    kind: Literal["crashed", "left"]
    reason: str
    exit_code: int = 0
    since: float = 0.0

    def pack(self) -> bytes:
        return encode(
            {
                "incarnation": self.incarnation,
                "kind": self.kind,
                "reason": self.reason,
                "exit": self.exit_code,
                "since": self.since,
            }
        )

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Departure:
        def build(fields: Fields) -> Departure:
            kind: Literal["crashed", "left"] = "left" if fields.text("kind") == "left" else "crashed"
            return cls(
                fields.text("incarnation"), kind, fields.text("reason"), fields.whole("exit"), fields.time("since")
            )

        return decode(key, value, build)


@frozen
class Shared:
    """A small value that a member shares with all; `write` tells one `share()` call from another."""

    value: Any
    by: str
    write: str

    def pack(self) -> bytes:
        return encode({"value": self.value, "by": self.by, "write": self.write})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Shared:
        return decode(key, value, lambda f: cls(f.json("value"), f.text("by"), f.text("write")))


@frozen
class Current:
    """The run that hand-started processes mean."""

    run: str

    def pack(self) -> bytes:
        return encode({"run": self.run})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Current:
        return decode(key, value, lambda f: cls(check_name("run", f.text("run"))))
