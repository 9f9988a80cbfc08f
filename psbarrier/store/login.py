"""Who we are to etcd: the metadata of each call, and the token in it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc
from attrs import frozen

from psbarrier.store.channels import Link, LinkError

Metadata = tuple[tuple[str, str], ...]

# With it, an etcd member that is cut off from its quorum fails a call at once instead of letting it hang.
_REQUIRE_LEADER: Metadata = (("hasleader", "true"),)


@frozen(eq=False)
class Pass:
    """What a call shows: its metadata, and over which link the token in it was issued (None: there is no token)."""

    metadata: Metadata = _REQUIRE_LEADER
    link: Link | None = None

    @property
    def authenticated(self) -> bool:
        """etcd asked for a login, and got one."""
        return any(name == "token" for name, _ in self.metadata)


_NO_TOKEN = Pass()


class Login:
    """Logs in when needed, once for all threads. Never shows the password.

    A token dies with a restart of etcd, and when it is too old; `expire` then makes the next call log in again. With
    `token` (of a client that somebody else logged in) and no user, there is no way to get a new one.
    """

    def __init__(self, user: str | None, password: str | Callable[[], str] | None, *, token: str | None = None) -> None:
        self.user = user
        self.password = password
        self._lock = threading.Lock()
        self._pass: Pass | None = _with_token(token, None) if token else None
        if user is None and self._pass is None:
            self._pass = _NO_TOKEN

    @property
    def renewable(self) -> bool:
        """There are credentials to log in with."""
        return self.user is not None

    def show(self, link: Link, timeout: float) -> Pass:
        """The pass for a call on `link`, after a login of at most `timeout` seconds where one is needed.

        Raises grpc.RpcError when etcd does not let us in, and LinkError when the password cannot be had, or another
        thread's login takes too long.
        """
        shown = self._pass
        if shown is not None:
            return shown
        if not self._lock.acquire(timeout=timeout):
            raise LinkError(link.endpoint, "a login of another thread is not answered")
        try:
            if self._pass is None:
                self._pass = self._log_in(link, timeout)
            return self._pass
        finally:
            self._lock.release()

    def expire(self, shown: Pass) -> None:
        """etcd did not accept `shown`; another thread may have renewed it already."""
        if self.renewable:
            with self._lock:
                if self._pass is shown:
                    self._pass = None

    def _log_in(self, link: Link, timeout: float) -> Pass:
        assert self.user is not None
        password = self._current_password(link)
        try:
            return _with_token(link.authenticate(self.user, password, timeout), link)
        except grpc.RpcError as error:
            details: str = error.details() or ""
            if "authentication is not enabled" in details:
                return Pass(link=link)  # as with etcd's own client: credentials ahead of time are no mistake
            raise

    def _current_password(self, link: Link) -> str:
        assert self.password is not None
        if isinstance(self.password, str):
            return self.password
        try:
            return self.password()
        except OSError as error:  # typically a mounted secret that is being replaced; it may be back for the next try
            raise LinkError(link.endpoint, f"cannot read the password: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"<Login {self.user or 'nobody'}>"


def _with_token(token: str, link: Link | None) -> Pass:
    return Pass((*_REQUIRE_LEADER, ("token", token)), link)
