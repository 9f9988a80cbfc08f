"""History: what a round left in its folder, as frozen values for the checker."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen

from faults.plan import Plan


@frozen
class Call:
    """One call of a member. `end` is None for one that never ended; `limit` are the seconds within which it promises to."""

    name: str
    begin: float
    end: float | None = None
    limit: float | None = None
    args: dict[str, Any] = field(factory=dict)
    result: Any = None
    error: str = ""
    kinds: tuple[str, ...] = ()
    text: str = ""


@frozen
class Write:
    """A transaction that a process was told was applied as `revision`, with the authority that it acted by then."""

    revision: int
    keys: tuple[str, ...]
    member: str = ""
    token: int = 0
    config: str = ""
    config_create: int = 0


@frozen
class Beat:
    """What a process was told of a lease: confirmed for `ttl` seconds from `sent` on, or, with 0, dead."""

    lease: int
    sent: float
    ttl: int
    at: float


@frozen
class Standing:
    """What a process held once it had joined."""

    task: str
    incarnation: str
    token: int
    run: str
    lease: int


@frozen
class Process:
    """One process of a member, and what it wrote until it ended, at `last` or soon after."""

    name: str
    slot: str = ""
    serial: int = 0
    manner: str = "bare"
    standing: Standing | None = None
    calls: tuple[Call, ...] = ()
    writes: tuple[Write, ...] = ()
    beats: tuple[Beat, ...] = ()
    revokes: tuple[tuple[int, float], ...] = ()
    late: tuple[tuple[float, float], ...] = ()
    unexpected: tuple[str, ...] = ()
    last: float = 0.0

    def lateness(self, since: float, until: float) -> float:
        """Seconds between the two in which this process did not run although it wanted to."""
        return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in self.late)


@frozen
class Change:
    """One key in one revision."""

    key: str
    value: bytes = b""
    create: int = 0
    version: int = 0
    lease: int = 0
    deleted: bool = False


@frozen
class Revision:
    """What etcd changed as one step; `at` is when a witness first heard of it."""

    number: int
    at: float
    changes: tuple[Change, ...]


@frozen
class Ended:
    """How a process of the supervisor's ended."""

    slot: str
    serial: int
    code: int
    at: float


@frozen
class Lasting:
    """A process of the supervisor's that ran for too long, and what its threads were doing then."""

    slot: str
    serial: int
    stacks: str


@frozen
class Past:
    """One fault that was brought about."""

    kind: str
    begin: float
    end: float


@frozen
class History:
    """All that is known of a round."""

    plan: Plan
    processes: tuple[Process, ...] = ()
    revisions: tuple[Revision, ...] = ()
    faults: tuple[Past, ...] = ()
    ended: tuple[Ended, ...] = ()
    lasting: tuple[Lasting, ...] = ()
    revokes: tuple[tuple[int, float], ...] = ()
    calm: float | None = None
    over: float = 0.0
    left: tuple[str, ...] | None = ()
    leases: tuple[str, ...] = ()
    revisions_left: tuple[int | None, ...] = ()
    complete: bool = True
    late: tuple[tuple[float, float], ...] = ()


def read(folder: Path) -> History:
    """The history of the round that was played in `folder`."""
    lines = list(_lines(folder / "round.jsonl"))
    left = [line for line in lines if line["what"] == "left"]
    revisions = [_revision(line) for line in _lines(folder / "etcd.jsonl")]
    return History(
        plan=Plan.loads((folder / "plan.json").read_text()),
        processes=tuple(_process(path) for path in sorted(folder.glob("calls-*.jsonl"))),
        revisions=tuple(sorted(revisions, key=lambda revision: revision.number)),
        faults=tuple(Past(line["kind"], line["begin"], line["end"]) for line in lines if line["what"] == "fault"),
        ended=tuple(
            Ended(line["slot"], line["serial"], line["code"], line["at"]) for line in lines if line["what"] == "ended"
        ),
        lasting=tuple(
            Lasting(line["slot"], line["serial"], line["stacks"]) for line in lines if line["what"] == "lasting"
        ),
        revokes=tuple((line["lease"], line["at"]) for line in lines if line["what"] == "revoke"),
        calm=next((line["at"] for line in lines if line["what"] == "calm"), None),
        over=next((line["at"] for line in lines if line["what"] == "ended-all"), 0.0),
        left=tuple(left[0]["keys"]) if left and left[0]["keys"] is not None else None,
        leases=tuple(str(lease) for line in left for lease in line["leases"] or ()),
        revisions_left=tuple(itertools.chain(*(line["revisions"] for line in lines if line["what"] == "revisions"))),
        complete=any(line["what"] == "witness" and line["complete"] for line in lines),
        late=tuple((line["since"], line["until"]) for line in lines if line["what"] == "late"),
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # the last one, of a process that was killed while the machine was


def _revision(line: dict[str, Any]) -> Revision:
    changes = tuple(Change(**{**change, "value": change["value"].encode("latin-1")}) for change in line["changes"])
    return Revision(line["revision"], line["at"], changes)


def _process(path: Path) -> Process:
    lines = list(_lines(path))
    ends = {line["id"]: line for line in lines if line["what"] in ("returned", "raised")}
    by: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by.setdefault(line["what"], []).append(line)
    who = by.get("process", [{}])[0]
    standing = by.get("standing", [None])[0]
    return Process(
        name=path.stem.removeprefix("calls-"),
        slot=who.get("slot", ""),
        serial=who.get("serial", 0),
        manner=who.get("manner", ""),
        standing=Standing(**{name: standing[name] for name in ("task", "incarnation", "token", "run", "lease")})
        if standing
        else None,
        calls=tuple(_call(line, ends.get(line["id"], {})) for line in by.get("call", [])),
        writes=tuple(_write(line) for line in by.get("txn", [])),
        beats=tuple(Beat(line["lease"], line["sent"], line["ttl"], line["at"]) for line in by.get("beat", [])),
        revokes=tuple((line["lease"], line["at"]) for line in by.get("revoke", [])),
        late=tuple((line["since"], line["until"]) for line in by.get("late", [])),
        unexpected=tuple(f"{line['error']}: {line['text']}" for line in by.get("unexpected", [])),
        last=max((line.get(name, 0.0) for line in lines for name in ("at", "begin", "end", "until")), default=0.0),
    )


def _call(begun: dict[str, Any], ended: dict[str, Any]) -> Call:
    return Call(
        begun["name"],
        begun["begin"],
        ended.get("end"),
        begun["limit"],
        begun["args"],
        ended.get("result"),
        ended.get("error", ""),
        tuple(ended.get("kinds", ())),
        ended.get("text", ""),
    )


def _write(line: dict[str, Any]) -> Write:
    authority = {name: line[name] for name in ("member", "token", "config", "config_create") if name in line}
    return Write(line["revision"], tuple(line["keys"]), **authority)
