"""Connector: makes stores on all endpoints of an etcd, or on one of them, with and without a login."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from psbarrier.doctor.errand import Errand
from psbarrier.errors import PsBarrierError, StoreRefusedError, StoreUnavailableError
from psbarrier.store.tls import TLS

if TYPE_CHECKING:
    from psbarrier.store.etcd import EtcdStore
    from psbarrier.store.maintenance import ServerStatus

PATIENCE = 3.0
"""Seconds that one endpoint may take for one answer."""


@frozen
class Connector:
    """`endpoints` are "host:port"; `tls` is None for plain text; `user` is None where nobody logs in.

    `open(endpoints, login)` makes a store on some of the endpoints.
    """

    endpoints: tuple[str, ...]
    tls: TLS | None
    user: str | None
    prefix: str
    open: Callable[[tuple[str, ...], bool], EtcdStore]

    def store(self) -> EtcdStore:
        """A store on all endpoints, as a job has it."""
        return self.open(self.endpoints, True)

    def one(self, endpoint: str, *, login: bool = True) -> EtcdStore:
        """A store on one endpoint."""
        return self.open((endpoint,), login)

    def status(self, endpoint: str) -> ServerStatus:
        """How the etcd at one endpoint is, asked without a login where it allows that.

        Raises StoreUnavailableError after PATIENCE seconds, and StoreRefusedError.
        """
        try:
            with self.one(endpoint, login=False) as store:
                return store.server_status(store.clock.now() + PATIENCE)
        except StoreRefusedError:
            if self.user is None:
                raise
        with self.one(endpoint) as store:
            return store.server_status(store.clock.now() + PATIENCE)


@frozen
class Server:
    """One endpoint, and how the etcd there is, or why that is not known."""

    endpoint: str
    status: ServerStatus | None
    problem: str = ""


def ask_all(connector: Connector) -> tuple[Server, ...]:
    """Ask all endpoints at once. Raises StoreUnavailableError when none of them answers."""
    errands = [Errand(functools.partial(_ask, connector, endpoint)) for endpoint in connector.endpoints]
    until = time.monotonic() + 3 * PATIENCE  # each is bounded by itself: without a login, then with one
    servers = tuple(errand.result(until) for errand in errands)
    if not any(server.status for server in servers):
        reasons = {server.endpoint: server.problem for server in servers}
        raise StoreUnavailableError.after(PATIENCE, "did not say how it is", reasons, applied=False)
    return servers


def _ask(connector: Connector, endpoint: str) -> Server:
    try:
        return Server(endpoint, connector.status(endpoint))
    except PsBarrierError as error:
        return Server(endpoint, None, reason(error))


def reason(error: PsBarrierError) -> str:
    """What went wrong at the one endpoint that was asked, in a few words."""
    reasons = getattr(error, "reasons", {})
    return ", ".join(reasons.values()) if reasons else str(error)
