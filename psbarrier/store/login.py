"""Who we are to etcd: the metadata of each call, and the token in it.

A login costs etcd 60 to 100 ms of a processor, and hundreds of processes need one at the same moment: when a job starts,
and when etcd restarts, for that forgets all tokens. Then each waits for all others, and etcd answers
little else meanwhile. So a login that is
under way is waited for and never sent a second time, however soon those who wait for it give up; and each but the first
begins a little later, by chance.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import grpc
from attrs import field, frozen

from psbarrier.store.base import Clock
from psbarrier.store.channels import Link, LinkError

Metadata = tuple[tuple[str, str], ...]

# With it, an etcd member that is cut off from its quorum fails a call at once instead of letting it hang.
_REQUIRE_LEADER: Metadata = (("hasleader", "true"),)

# What one login took says how busy etcd was with the others'; so many times that is what later ones are spread over, at
# most so many seconds: what waits for one has 10 s at least.
_SPREAD = 10.0
_LONGEST_SPREAD = 5.0

# Seconds after which a password that etcd has refused is tried again: when it is changed, etcd may learn it last.
_ASK_AGAIN = 5.0


@frozen(eq=False)
class Pass:
    """What a call shows: its metadata, and over which link the token in it was issued (None: there is no token)."""

    metadata: Metadata = field(default=_REQUIRE_LEADER, repr=False)  # a token is as good as a password
    link: Link | None = None

    @property
    def authenticated(self) -> bool:
        """etcd asked for a login, and got one."""
        return any(name == "token" for name, _ in self.metadata)


_NO_TOKEN = Pass()


class LoginError(grpc.RpcError):
    """How a login has failed. (Not gRPC's own error: that is the call, which must not outlive its end.)"""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class _Attempt:
    """One login, over `link`, not before `due`."""

    def __init__(self, link: Link, due: float) -> None:
        self.link = link
        self.due = due
        self.began: float | None = None
        self.call: Any = None
        self.error: LoginError | None = None


@frozen(eq=False)
class _Refusal:
    """etcd has not let us in with `password`, and is not asked again before `until`, unless it is another by then."""

    error: LoginError
    until: float
    password: str = field(repr=False)


class Login:
    """Logs in when needed, once for all threads. Never shows the password.

    A token dies when it is too old, and with a restart of etcd (but for those that etcd 3.4 gave after its last write);
    `expire` then makes the next call log in again. With `token` (of a client that somebody else logged in) and no user,
    there is no way to get a new one. etcd gets `patience` seconds to answer one login.
    """

    def __init__(
        self,
        user: str | None,
        password: str | Callable[[], str] | None,
        clock: Clock,
        patience: float,
        *,
        token: str | None = None,
    ) -> None:
        self.user = user
        self.password = password
        self._clock = clock
        self._patience = patience
        self._changed = threading.Condition()
        self._attempt: _Attempt | None = None
        self._refusal: _Refusal | None = None
        self._took: float | None = None  # seconds of the last login; None before the first
        self._pass: Pass | None = _with_token(token, None) if token else None
        if user is None and self._pass is None:
            self._pass = _NO_TOKEN

    @property
    def renewable(self) -> bool:
        """There are credentials to log in with."""
        return self.user is not None

    def show(self, link: Link, timeout: float) -> Pass:
        """The pass for a call on `link`, after a login where one is needed; waits for that for at most `timeout` seconds.

        Raises grpc.RpcError when etcd does not let us in, and LinkError when the password cannot be had, or the login
        is not answered yet: then it goes on, and whoever comes next waits for the same one.
        """
        shown = self._pass
        if shown is not None:
            return shown
        until = self._clock.now() + timeout
        attempt: _Attempt | None = None
        with self._changed:
            while self._pass is None:
                if attempt is not None and attempt.error is not None:
                    raise attempt.error.with_traceback(None)
                attempt = self._under_way(link)
                now = self._clock.now()
                if attempt.began is None and now >= attempt.due:
                    self._begin(attempt, now)
                elif now >= until:
                    raise LinkError(link.endpoint, "the login is not answered yet")
                else:
                    self._clock.wait(self._changed, until if attempt.began is not None else min(until, attempt.due))
            return self._pass

    def expire(self, shown: Pass) -> None:
        """etcd did not accept `shown`; another thread may have renewed it already."""
        if self.renewable:
            with self._changed:
                if self._pass is shown:
                    self._pass = None

    def _under_way(self, link: Link) -> _Attempt:
        """The login to wait for; a new one if there is none, or its link is given up. Needs the lock."""
        attempt = self._attempt
        if attempt is None or attempt.link.retired:
            refusal, now = self._refusal, self._clock.now()
            if refusal is not None and now < refusal.until and self._current_password(link) == refusal.password:
                raise refusal.error.with_traceback(None)
            spread = 0.0 if self._took is None else min(_LONGEST_SPREAD, _SPREAD * self._took)
            attempt = self._attempt = _Attempt(link, now + random.uniform(0.0, spread))
        return attempt

    def _begin(self, attempt: _Attempt, now: float) -> None:
        """Needs the lock, which the answer may take again at once."""
        assert self.user is not None
        password = self._current_password(attempt.link)
        attempt.began = now
        try:
            attempt.call = attempt.link.authenticate(self.user, password, self._patience)
        except ValueError as error:  # gRPC's way of saying that the channel was closed meanwhile
            self._attempt = None
            raise LinkError(attempt.link.endpoint, "connection closed") from error
        attempt.call.add_done_callback(lambda call: self._answered(attempt, password, call))

    def _answered(self, attempt: _Attempt, password: str, call: Any) -> None:
        """On a thread of gRPC's."""
        code, details = call.code(), call.details() or ""
        with self._changed:
            attempt.call = None
            if code is grpc.StatusCode.OK:
                shown = _with_token(str(call.result().token), attempt.link)
            elif "authentication is not enabled" in details:
                shown = Pass(link=attempt.link)  # as with etcd's own client: credentials ahead of time are no mistake
            else:
                shown = None
                attempt.error = LoginError(code, details)
                if "authentication failed" in details:
                    until = self._clock.now() + _ASK_AGAIN * random.uniform(0.5, 1.0)
                    self._refusal = _Refusal(attempt.error, until, password)
            if self._attempt is attempt:
                self._attempt = None
                if shown is not None:
                    self._pass, self._took = shown, self._clock.now() - (attempt.began or 0.0)
            self._changed.notify_all()

    def _current_password(self, link: Link) -> str:
        assert self.password is not None
        if isinstance(self.password, str):
            return self.password
        try:
            return self.password()
        except OSError as error:  # typically a mounted secret that is being replaced; it may be back for the next try
            raise LinkError(link.endpoint, f"cannot read the password: {error.strerror}") from error
        except UnicodeError:
            pass
        # Not in the block above: that error holds what it could not read, and would hang on ours as its context.
        raise LinkError(link.endpoint, "cannot read the password: it is no UTF-8")

    def __repr__(self) -> str:
        return f"<Login {self.user or 'nobody'}>"


def _with_token(token: str, link: Link | None) -> Pass:
    return Pass((*_REQUIRE_LEADER, ("token", token)), link)
