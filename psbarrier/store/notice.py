"""A word about an etcd with known bugs: once for each cluster that this process talks to, and never in anybody's way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc

from psbarrier.store import compat
from psbarrier.store.channels import Link
from psbarrier.store.known_bugs import known_bugs, warning
from psbarrier.store.login import Pass

_log = logging.getLogger("psbarrier")

# Seconds from the first answer on.
_LATER = 10.0
# Seconds for each of two questions that nobody waits for.
_PATIENCE = 5.0
# How psbarrier.embedded names the members that it starts: whoever uses those did not choose their version.
_OURS = "psbarrier-embedded"
_REFUSED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)

_asked: dict[int, Notice] = {}


class Notice:
    """Of one store: asks the etcd that it talks to for its version, on the same connection, without waiting.

    Not at once, for hundreds of processes may start at the same moment, and then there is more important work for etcd and
    for them; but with the first answer that comes ten seconds after the very first one, by `now`.

    Where that version has bugs that matter, the names of the cluster's members tell whether it is one that psbarrier itself
    has started; if not, a warning is logged. An etcd that does not tell its version is not asked twice.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._due: float | None = None
        self._done = False

    def answered(self, link: Link, shown: Pass, response: Any) -> None:
        """An answer came over `link`."""
        if self._done:
            return
        now = self._now()
        if self._due is None:
            self._due = now + _LATER
        if now < self._due:
            return
        self._done = True
        cluster = int(response.header.cluster_id)
        if _asked.setdefault(cluster, self) is self:  # one step, so no lock, which a fork could leave locked
            _Question(link, shown).ask()


class _Question:
    """Two calls, one after the other, whose answers come on gRPC's own thread; a failure ends it silently."""

    def __init__(self, link: Link, shown: Pass) -> None:
        self._link, self._shown = link, shown
        self._line = ""

    def ask(self) -> None:
        self._send(self._link.status, compat.load().StatusRequest(), self._judge)

    def _send(self, method: Any, request: Any, then: Callable[[Any], None]) -> None:
        try:
            future = method.future(request, timeout=_PATIENCE, metadata=self._shown.metadata)
        except ValueError:  # gRPC's way of saying that the channel was closed meanwhile
            return
        future.add_done_callback(then)

    def _judge(self, call: Any) -> None:
        if call.code() is not grpc.StatusCode.OK:
            return
        version, auth = str(call.result().version), self._shown.authenticated
        bugs = known_bugs(version, auth=auth)
        if bugs:
            self._line = warning(self._link.endpoint, version, bugs, auth=auth)
            self._send(self._link.member_list, compat.load().MemberListRequest(), self._tell)

    def _tell(self, call: Any) -> None:
        """Where users may not list the members, there are users, and so it is not ours."""
        ours = call.code() is grpc.StatusCode.OK and all(m.name.startswith(_OURS) for m in call.result().members)
        if call.code() in (grpc.StatusCode.OK, *_REFUSED) and not ours:
            _log.warning("%s", self._line)
