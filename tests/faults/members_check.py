"""What holding a task promises: one holder at a time, growing tokens, and nothing done by who holds it no more."""

from __future__ import annotations

from collections.abc import Iterator

from faults.history import History, Process
from faults.ledger import Step, Tenure, held, place, steps, tenures
from faults.verdict import Violation
from psbarrier.protocol.records import Gone, Leader, Registration

_HEARD = 0.3
"""Seconds by which a witness may hear of a change later than whoever is told of it by etcd."""

_AWAKE = 3.0
"""Seconds after which an etcd that was frozen has found out what it missed."""


def tokens(history: History) -> Iterator[Violation]:
    """The token is the registration's create revision, so it grows with every incarnation."""
    known = tenures(history)
    for process in history.processes:
        me = process.standing
        if me is None:
            continue
        tenure = known.get(me.token)
        if tenure is None or (tenure.task, tenure.incarnation) != (me.task, me.incarnation):
            yield Violation("token", f"{process.name} holds {me}, and etcd knew {tenure}")
    newest: dict[str, int] = {}
    for token, tenure in sorted(known.items()):
        if token <= newest.get(tenure.key, 0):
            yield Violation("token", f"{tenure} is not above {newest[tenure.key]}")
        newest[tenure.key] = token


def slots(history: History) -> Iterator[Violation]:
    """Nobody is registered over another who was never unregistered: his token would fence nobody."""
    for step in steps(history):
        for change in step.revision.changes:
            where, was = place(change.key), step.before.get(change.key)
            if where is None or not where.rest.startswith("members/") or was is None or change.deleted:
                continue
            before, after = Registration.unpack(was.key, was.value), Registration.unpack(change.key, change.value)
            if before.incarnation != after.incarnation:
                yield Violation("slot", f"revision {step.revision.number}: {after} was written over {before}")
            if before.finished and after != before:
                yield Violation(
                    "slot", f"revision {step.revision.number}: {change.key} had finished, and was written again"
                )


def authority(history: History) -> Iterator[Violation]:
    """No write is applied of a process that does not hold its task, or whose run is gone."""
    wrote = {write.revision: (process, write) for process in history.processes for write in process.writes}
    for step in steps(history):
        known = wrote.get(step.revision.number)
        if known is None or not known[1].token:
            continue
        process, write = known
        member, config = step.before.get(write.member), step.before.get(write.config)
        if member and config and (member.create, config.create) == (write.token, write.config_create):
            continue
        keys = [key for key in write.keys if "/ticks/slots/" not in key and not _resigned(step, key)]
        if keys:
            holder = member and Registration.unpack(member.key, member.value).incarnation
            yield Violation(
                "authority",
                f"revision {step.revision.number}: {process.name} wrote {keys} with token {write.token}; "
                f"the task is held by {holder} with {member and member.create}",
            )


def _resigned(step: Step, key: str) -> bool:
    return key.endswith("/control/leader") and any(c.key == key and c.deleted for c in step.revision.changes)


def leaders(history: History) -> Iterator[Violation]:
    """Only who leads writes the spec and the list of the gone."""
    wrote = {write.revision: (process, write) for process in history.processes for write in process.writes}
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            if where is None or where.rest not in ("control/cluster", "control/gone") or change.deleted:
                continue
            at, leader = f"revision {step.revision.number}", step.before.get(f"{where.root}control/leader")
            process, write = wrote.get(step.revision.number, (None, None))
            if leader is None:
                yield Violation(
                    "leader", f"{at}: {change.key} was written, and nobody led ({process and process.name})"
                )
            elif write is not None and write.token:
                member = step.before.get(write.member)
                me = member and Registration.unpack(member.key, member.value).incarnation
                leads = Leader.unpack(leader.key, leader.value)
                if me != leads.incarnation:
                    yield Violation("leader", f"{at}: {change.key} was written by {write.member}, and {leads} led")
            if f"{where.root}control/state" in step.before:
                yield Violation("leader", f"{at}: {change.key} was written after the end of the job")


def listed(history: History) -> Iterator[Violation]:
    """The list of the gone names no incarnation as lost that is registered, and as finished only who has finished."""
    for step in steps(history):
        for change in step.revision.changes:
            where = place(change.key)
            if where is None or where.rest != "control/gone" or change.deleted:
                continue
            gone = Gone.unpack(change.key, change.value)
            for task, loss in gone.lost.items():
                slot = step.before.get(f"{where.root}members/{task}")
                if slot is not None and Registration.unpack(slot.key, slot.value).incarnation == loss.incarnation:
                    yield Violation("gone", f"revision {step.revision.number}: {task} is listed, and is registered")
            for task in gone.finished:
                slot = step.before.get(f"{where.root}members/{task}")
                if slot is None or not Registration.unpack(slot.key, slot.value).finished:
                    yield Violation(
                        "gone", f"revision {step.revision.number}: {task} is listed as finished, and is not"
                    )


def losses(history: History) -> Iterator[Violation]:
    """Who is told that the task is lost has lost it: not before etcd could have ended the lease by itself, or was asked to."""
    everywhere = [*history.revokes, *(revoke for process in history.processes for revoke in process.revokes)]
    written = {write.revision for process in history.processes for write in process.writes}
    for process, tenure in held(history):
        told = next((call for call in process.calls if "SlotLostError" in call.kinds), None)
        if told is None or told.end is None or "RunGoneError" in told.kinds:
            continue
        if tenure.ended is None:
            yield Violation("lost", f"{process.name} was told by {told.name}: {told.text}; etcd never ended {tenure}")
            continue
        own = {id(other) for other, its in held(history) if its.token == tenure.token} | {id(process)}
        others = [
            revoke
            for revoke in everywhere
            if revoke[0] == tenure.lease
            and not any(revoke in other.revokes for other in history.processes if id(other) in own)
        ]
        asked = others or tenure.ended.number in written or _reported(tenure)
        if not asked and tenure.ended.at < _certain(process, told.end) and not _woken(history, tenure.ended.at):
            yield Violation("lost", f"{process.name} was told by {told.name} of a loss that it brought about: {tenure}")
        elif tenure.ended.at > told.end + _HEARD + process.lateness(told.begin, told.end):
            yield Violation("lost", f"{process.name} was told at {told.end:.3f}, and {tenure} ended later")


def _reported(tenure: Tenure) -> bool:
    """Whether its end was said in the same step: a crash, or that it left."""
    assert tenure.ended is not None
    departure = tenure.key.replace("/members/", "/departures/")
    return any(change.key == departure for change in tenure.ended.changes)


def _certain(process: Process, until: float) -> float:
    """Until when the process could be sure of its lease, by the beats that it knew of at `until`."""
    lease = process.standing.lease if process.standing is not None else 0
    beats = [beat for beat in process.beats if beat.lease == lease and beat.at <= until and beat.ttl > 0]
    return max((beat.sent + beat.ttl for beat in beats), default=0.0)


def _woken(history: History, at: float) -> bool:
    """Whether an etcd had just been woken up: before 3.4.31 and 3.5.13, a leader that was frozen then revokes leases that
    its successor has confirmed meanwhile (https://github.com/etcd-io/etcd/issues/15247)."""
    frozen = (fault for fault in history.faults if fault.kind.startswith("etcd: pause"))
    return any(fault.begin <= at <= fault.end + _AWAKE for fault in frozen)


def certainty(history: History) -> Iterator[Violation]:
    """`guard()` is given only while the lease surely lives: for a TTL from when a beat was sent that was confirmed.

    What etcd says of the lease later does not matter here: whether it keeps its own word, no client can know.
    """
    for process, _ in held(history):
        for call in process.calls:
            if call.name != "guard" or call.end is None or call.error:
                continue
            certain = _certain(process, call.end)
            if call.begin > certain:
                yield Violation(
                    "certain", f"{process.name} got a guard at {call.begin:.3f}, and was sure until {certain:.3f} only"
                )
                break
