"""What a barrier is made of: its definition, where it stands, and who arrived."""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from attrs import frozen

from psbarrier.protocol.codec import VERSION, Fields, decode, encode
from psbarrier.protocol.keys import Attempt
from psbarrier.protocol.records import pack_indices, unpack_indices
from psbarrier.spec import Replicas, Task

_MOST = 1024 * 1024
"""Bytes of a barrier's record: it names up to a hundred of the missing, and why."""


@frozen
class Broken:
    """Why a generation is broken. `missing` is None until the process that broke it has added it."""

    by: str
    reason: str
    missing: Mapping[str, str] | None = None


@frozen
class BarrierRecord:
    """Where a barrier stands: its attempt, whether that is broken, and the attempt that was released last.

    Where one of its roles is elastic, also whom the open attempt counts: the `parties` are its roles' tasks in the
    `epoch` that was the newest when the first of them came. None until then.
    """

    attempt: Attempt = Attempt()
    broken: Broken | None = None
    last: Attempt | None = None
    epoch: int = 0
    parties: frozenset[Task] | None = None

    def pack(self) -> bytes:
        at, last, broken = self.attempt, self.last, self.broken
        if last is not None and broken is None and self.parties is None:  # a release: the short way to the same bytes
            return b'{"at":[%d,%d,%d],"last":[%d,%d,%d],"v":%d}' % (*at.numbers, *last.numbers, VERSION)
        fields: dict[str, Any] = {"at": list(at.numbers)}
        if last is not None:
            fields["last"] = list(last.numbers)
        if broken is not None:
            missing = None if broken.missing is None else dict(broken.missing)
            fields["broken"] = {"by": broken.by, "reason": broken.reason, "missing": missing}
        if self.parties is not None:
            fields["parties"] = {"epoch": self.epoch, "tasks": pack_indices(self.parties)}
        return encode(fields)

    @classmethod
    def unpack(cls, key: str, value: bytes) -> BarrierRecord:
        def attempt(row: Any) -> Attempt:
            generation, round_, era = row
            if not all(type(number) is int and 0 <= number < 10**10 for number in row):
                raise ValueError(f"{row!r:.60} is no attempt")
            return Attempt(generation, round_, era)

        def broken(fields: Fields | None) -> Broken | None:
            if fields is None:
                return None
            missing = fields.raw("missing")
            if missing is not None:
                missing = fields.words("missing")
            return Broken(fields.text("by"), fields.text("reason"), missing)

        def build(fields: Fields) -> BarrierRecord:
            last = fields.raw("last") if fields.has("last") else None
            counted = fields.inner("parties")
            return cls(
                attempt(fields.raw("at")),
                broken(fields.inner("broken")),
                None if last is None else attempt(last),
                counted.whole("epoch") if counted else 0,
                unpack_indices(counted.mapping("tasks")) if counted else None,
            )

        return decode(key, value, build, most=_MOST)


@frozen
class Definition:
    """Who the parties of a barrier are: sorted roles, and how many tasks they have together; 0 where one of the roles is
    elastic, for then each generation counts its own."""

    roles: tuple[str, ...]
    parties: int

    @classmethod
    def of(cls, roles: tuple[str, ...], replicas: Replicas) -> Definition:
        parties = sum(count for role, count in replicas.counts if role in roles)
        return cls(roles, 0 if replicas.elastic(roles) else parties)

    def pack(self) -> bytes:
        return encode({"roles": list(self.roles), "parties": self.parties})

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Definition:
        return decode(key, value, lambda f: cls(f.texts("roles"), f.whole("parties")))


@frozen
class Arrival:
    """One `wait()` call of one incarnation; `time` is seconds since 1970, for people."""

    incarnation: str
    call: int
    time: float = 0.0

    def pack(self) -> bytes:
        # The short way to the bytes of encode(): this is on the path of a barrier.
        incarnation = encode_basestring_ascii(self.incarnation)
        return f'{{"call":{self.call},"incarnation":{incarnation},"time":{self.time!r},"v":{VERSION}}}'.encode()

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Arrival:
        return decode(key, value, lambda f: cls(f.text("incarnation"), f.whole("call"), f.time("time")))

    def same_call(self, other: Arrival) -> bool:
        return (self.incarnation, self.call) == (other.incarnation, other.call)
