"""Examination: all checks, endpoint by endpoint at once, then what they say together."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from psbarrier.doctor import address, rights, server
from psbarrier.doctor.connector import Connector
from psbarrier.doctor.errand import Errand
from psbarrier.doctor.finding import Finding, Place, problems, soften
from psbarrier.doctor.server import Examined
from psbarrier.protocol.keys import JobKeys
from psbarrier.store.known_bugs import cure, known_bugs

_NO_JOB = "psbarrier-doctor"
_EACH = 13.0
"""Seconds for the checks of one endpoint; all are checked at once, and the rights take some seconds more."""
_ETCD = Place("etcd")


def examine(connector: Connector, job: JobKeys | None, own_address: str | None) -> tuple[Finding, ...]:
    """Everything; about 20 s at most, however dead the endpoints are.

    `job` is whose keys are tried; None for those below the prefix. What is wrong with one endpoint is a warning as long as
    another one can be used.
    """
    until = time.monotonic() + _EACH
    addresses = Errand(lambda: address.examine(own_address, connector.endpoints))
    errands = [
        (endpoint, Errand(functools.partial(server.examine, connector, endpoint))) for endpoint in connector.endpoints
    ]
    examined = [_result(endpoint, errand, until) for endpoint, errand in errands]
    usable = tuple(one.endpoint for one in examined if one.usable)
    found = [finding for one in examined for finding in (soften(one.findings) if usable else one.findings)]
    found += _together(examined, usable)
    found += _rights(connector, usable, job, stopped=bool(problems(found)))
    return (*found, *addresses.result(until))


def _result(endpoint: str, errand: Errand[Examined], until: float) -> Examined:
    try:
        return errand.result(until)
    except TimeoutError:
        advice = "it answers, but slowly: look at its log and its disk"
        said = f"the checks did not end within {_EACH:.0f} s"
        return Examined(endpoint, (Place(endpoint).problem("time", said, advice, "unavailable"),))


def _together(examined: Sequence[Examined], usable: tuple[str, ...]) -> list[Finding]:
    """What the endpoints say only together."""
    clusters: dict[int, list[str]] = {}
    for one in examined:
        if one.status is not None:
            clusters.setdefault(one.status.cluster, []).append(one.endpoint)
    found = []
    if len(clusters) > 1:
        told = "; ".join(f"{', '.join(endpoints)} of {cluster:x}" for cluster, endpoints in clusters.items())
        advice = "name the endpoints of one cluster only: tasks would not find each other"
        found.append(
            _ETCD.problem("cluster", f"the endpoints are of {len(clusters)} clusters: {told}", advice, "usage")
        )
    if len(usable) == len(examined):
        found.append(
            _ETCD.ok("endpoints", "a job can use it" if len(usable) == 1 else f"a job can use all {len(usable)}")
        )
    elif usable:
        said = f"a job can use {len(usable)} of {len(examined)}"
        found.append(_ETCD.warning("endpoints", said, "see to the others, before another one fails"))
    else:
        said = "a job cannot use it" if len(examined) == 1 else f"a job can use none of the {len(examined)}"
        found.append(_ETCD.note("endpoints", f"{said}; see above why"))
    return found + _versions(examined)


def _versions(examined: Sequence[Examined]) -> list[Finding]:
    """What is wrong with the versions of etcd that run: a line for each bug, with what etcd itself calls it."""
    found = []
    authenticated = any(one.authenticated for one in examined)
    for version in sorted({one.status.version for one in examined if one.status is not None}):
        bugs = known_bugs(version, auth=authenticated)
        if not bugs:
            found.append(_ETCD.ok("version", f"{version} has no bug that is known to harm a job"))
            continue
        count = "a known bug" if len(bugs) == 1 else f"{len(bugs)} known bugs"
        said = f"{version} has {count} that can harm a job, named below"
        found.append(_ETCD.warning("version", said, f"upgrade to {cure(version, auth=authenticated)} or later"))
        found += [_ETCD.note("bug", f"{bug.harm} ({bug.source})") for bug in bugs]
    return found


def _rights(
    connector: Connector, usable: tuple[str, ...], job: JobKeys | None, *, stopped: bool
) -> tuple[Finding, ...]:
    keys = job or JobKeys(connector.prefix, _NO_JOB)
    if not usable or stopped:
        return (Place(f"keys {keys.root if job else f'{connector.prefix}/'}").skipped("rights", "see above"),)
    with connector.open(usable, True) as store:
        return rights.examine(store, keys, one_job=job is not None)
