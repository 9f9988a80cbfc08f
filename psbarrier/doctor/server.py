"""Server: the checks of one endpoint's etcd, once it can be reached."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import time

from attrs import frozen

from psbarrier.doctor import reach
from psbarrier.doctor.connector import PATIENCE, Connector, reason
from psbarrier.doctor.finding import Finding, Place
from psbarrier.errors import PsBarrierError, StoreRefusedError, StoreUnavailableError
from psbarrier.store.endpoints import host_and_port
from psbarrier.store.maintenance import ServerStatus

_SLOW = 0.1
"""Seconds from which on a read is slow: etcd's heartbeats are that far apart by default."""
_APART = 5.0
"""Seconds from which on two clocks differ so much that somebody should know."""
_FULL = 0.8
"""The part of its quota from which on a database is nearly full."""


@frozen
class Examined:
    """An endpoint, what was found, how its etcd is if it said so, whether it asked for a login and got one, and whether
    a job could use it."""

    endpoint: str
    findings: tuple[Finding, ...]
    status: ServerStatus | None = None
    authenticated: bool = False
    usable: bool = False


def examine(connector: Connector, endpoint: str) -> Examined:
    """All checks of one endpoint."""
    found = list(reach.look(endpoint, connector.tls))
    if any(finding.kind for finding in found):
        return Examined(endpoint, tuple(found))
    place = Place(endpoint)
    try:
        status = connector.status(endpoint)
    except PsBarrierError as error:
        lost = "no leader" in reason(error)
        found.append(_leaderless(place) if lost else failure(place, "etcd", error, "look at etcd's log there"))
        return Examined(endpoint, tuple(found))
    found.append(place.ok("etcd", f"version {status.version}, member {status.member:x} of cluster {status.cluster:x}"))
    told = _over_http(connector, endpoint)
    found += [*_state(place, status), _space(place, status, status.quota or told.quota)]
    found += [_clock(place, told.ahead)] if told.ahead is not None else []
    answers, authenticated = _answers(connector, endpoint, place)
    found += answers
    usable = not any(finding.kind for finding in found)
    return Examined(endpoint, tuple(found), status, authenticated, usable)


def failure(place: Place, check: str, error: PsBarrierError, advice: str) -> Finding:
    """The finding that an error of the store is."""
    if isinstance(error, StoreRefusedError):
        said = str(error).partition("refuses the request: ")[2].rstrip(".")
        return place.problem(check, f"etcd refuses: {said}" if said else str(error), "", "refused")
    kind = "unavailable" if isinstance(error, StoreUnavailableError) else "usage"
    return place.problem(check, reason(error), advice, "unavailable" if kind == "unavailable" else "usage")


def _state(place: Place, status: ServerStatus) -> list[Finding]:
    itself = status.leader == status.member
    found = [
        place.ok("leader", "itself" if itself else f"member {status.leader:x}") if status.leader else _leaderless(place)
    ]
    if status.learner:
        found.append(place.problem("role", "a learner, which answers no job", "name voting members", "unavailable"))
    found += [_alarm(place, alarm) for alarm in status.alarms] or [place.ok("alarms", "none")]
    return found


def _leaderless(place: Place) -> Finding:
    advice = "start the other members, or mend the network between them: more than half must see each other"
    return place.problem("leader", "none: the cluster has lost its quorum", advice, "unavailable")


def _alarm(place: Place, alarm: str) -> Finding:
    if alarm == "NOSPACE":
        advice = "compact and defragment it, or raise --quota-backend-bytes, and then: etcdctl alarm disarm"
        return place.problem("alarms", "NOSPACE: the database is full, and nothing can be written", advice, "refused")
    if alarm == "CORRUPT":
        advice = "stop using this cluster: find the member that differs, and replace it from a healthy one"
        return place.problem("alarms", "CORRUPT: the members' data differ", advice, "refused")
    return place.warning("alarms", alarm, "look at etcd's documentation of it")


def _space(place: Place, status: ServerStatus, quota: int) -> Finding:
    used = f"{_mib(status.size)}, {_mib(status.in_use)} in use"
    if not quota:
        return place.ok("space", f"{used}; its quota is not known")
    part = status.size / quota
    if part >= _FULL:
        advice = "compact and defragment it, or raise --quota-backend-bytes"
        return place.warning("space", f"{used}: {part:.0%} of the quota of {_mib(quota)}", advice)
    return place.ok("space", f"{used}: {part:.0%} of the quota of {_mib(quota)}")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _answers(connector: Connector, endpoint: str, place: Place) -> tuple[list[Finding], bool]:
    """Whether we are let in, and how long a linearizable read takes; and whether a login was asked for."""
    with connector.one(endpoint) as store:
        try:
            store.probe(store.clock.now() + PATIENCE)
            asked = connector.user is not None and store.accounts.enabled(store.clock.now() + PATIENCE)
        except StoreRefusedError as error:
            return [_refusal(connector, place, error)], True
        except PsBarrierError as error:
            advice = "it answers, but reads nothing: its cluster may have lost its quorum"
            return [failure(place, "read", error, advice)], False
        started = time.monotonic()
        try:
            store.probe(store.clock.now() + PATIENCE)
        except PsBarrierError as error:
            advice = "etcd answers now and then only: look at its log"
            return [_login(connector, place, asked), failure(place, "read", error, advice)], asked
        took = time.monotonic() - started
    said = f"a linearizable read took {took * 1000:.1f} ms"
    advice = "look at the disks of etcd's members, and at the network between them"
    read = place.warning("read", said, advice) if took > _SLOW else place.ok("read", said)
    return [_login(connector, place, asked), read], asked


def _refusal(connector: Connector, place: Place, error: StoreRefusedError) -> Finding:
    if connector.user is None:
        return place.problem("login", "etcd asks who we are", "give --user and --password-file", "refused")
    found = failure(place, "login", error, "")
    return place.problem("login", f"as {connector.user!r}: {found.said}", "", "refused")


def _login(connector: Connector, place: Place, asked: bool) -> Finding:
    if connector.user is None:
        return place.ok("login", "none is needed: whoever reaches etcd may do everything")
    if not asked:
        said = f"{connector.user!r} is not asked for: authentication is not enabled, and everybody may do everything"
        return place.warning("login", said, "enable it with: etcdctl auth enable")
    return place.ok("login", f"as {connector.user!r}")


@frozen
class _Http:
    """What etcd's port says over plain HTTP: the quota in bytes (0: not told), and how far our clock is ahead of its
    (None: not told), in seconds, to about one."""

    quota: int = 0
    ahead: float | None = None


def _over_http(connector: Connector, endpoint: str) -> _Http:
    """Its metrics and its clock; nothing where it serves no HTTP for us."""
    host, port = host_and_port(endpoint)
    try:
        connection = (
            http.client.HTTPConnection(host, port, timeout=PATIENCE)
            if connector.tls is None
            else http.client.HTTPSConnection(
                host, port, timeout=PATIENCE, context=reach.context_of(connector.tls, "http/1.1")
            )
        )
        with contextlib.closing(connection):
            asked = time.time()
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            answered = time.time()
            text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return _Http()
    found = re.search(r"^etcd_server_quota_backend_bytes ([0-9.e+]+)$", text, re.MULTILINE)
    return _Http(int(float(found[1])) if found else 0, _ahead(answer.getheader("Date"), asked, answered))


def _ahead(date: str | None, asked: float, answered: float) -> float | None:
    """How far our clock is ahead: 0 if the other's time, which is told in whole seconds, may have been ours."""
    try:
        told = email.utils.parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
    return max(0.0, asked - (told + 1)) or min(0.0, answered - told)


def _clock(place: Place, ahead: float) -> Finding:
    if abs(ahead) < _APART:
        return place.ok("clock", "as this machine's")
    said = f"this machine's is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} it"
    return place.warning("clock", said, "set both by NTP: certificates and the times in messages go by them")
