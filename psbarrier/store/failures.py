"""What a failed call means: etcd's and gRPC's errors, read in one place.

| kind        | the request was applied | what to do                                          |
|-------------|-------------------------|-----------------------------------------------------|
| UNSENT      | certainly not           | try the next endpoint                               |
| BROKEN      | nobody knows            | try the next endpoint, if a repeat does no harm     |
| BUSY        | certainly not           | try again a little later, here                      |
| STALE_LOGIN | certainly not           | log in again                                        |
| NO_LEASE    | certainly not           | tell the caller                                     |
| HAS_LEASE   | certainly not           | a grant that had already succeeded                  |
| EXISTS      | certainly not           | a user or role that had already been made           |
| ABSENT      | certainly not           | a user, role or grant that had already been removed |
| NO_AUTH     | certainly not           | a login where etcd asks nobody for one              |
| DENIED      | certainly not           | tell the caller: rights are missing                 |
| FULL        | certainly not           | tell the caller: there is no space left             |
| REFUSED     | certainly not           | tell the caller                                     |
"""

from __future__ import annotations

import enum
import re

import grpc
from attrs import evolve, frozen

from psbarrier.errors import LeaseNotFoundError, StoreError, StoreFullError, StoreRefusedError


class Kind(enum.Enum):
    """See the table above."""

    UNSENT = "unsent"
    BROKEN = "broken"
    BUSY = "busy"
    STALE_LOGIN = "stale login"
    NO_LEASE = "no lease"
    HAS_LEASE = "has lease"
    EXISTS = "exists"
    ABSENT = "absent"
    NO_AUTH = "no authentication"
    DENIED = "denied"
    FULL = "full"
    REFUSED = "refused"


_TRY_AGAIN = frozenset({Kind.UNSENT, Kind.BROKEN, Kind.BUSY, Kind.STALE_LOGIN})


@frozen
class Failure:
    """One failed call: what it means, in a few words for people; `advice` says what could help.

    `from_etcd` tells that etcd itself answered: the connection is fine. `timed_out` tells that nothing answered
    within the time of the call, which was perhaps not long enough.
    """

    kind: Kind
    reason: str
    advice: str = ""
    from_etcd: bool = False
    timed_out: bool = False
    cause: BaseException | None = None

    @property
    def retryable(self) -> bool:
        """Another attempt may succeed."""
        return self.kind in _TRY_AGAIN

    def unsent(self) -> Failure:
        """The same, of a step that came before the request itself."""
        return evolve(self, kind=Kind.UNSENT) if self.kind is Kind.BROKEN else self

    def error(self, endpoint: str) -> StoreError:
        """What to raise for a failure that no other attempt can cure."""
        assert not self.retryable
        if self.kind is Kind.NO_LEASE:
            return LeaseNotFoundError(
                "A lease that the request names does not exist (any more): it ran out or was revoked; etcd at "
                f"{endpoint} does not say which one."
            )
        kind = StoreFullError if self.kind is Kind.FULL else StoreRefusedError
        return kind(
            f"etcd at {endpoint} refuses the request: {self.reason}; {self.advice}.", reasons={endpoint: self.reason}
        )


# etcd's own words → what they mean. The first that occurs in the text decides.
_SAID_BY_ETCD: tuple[tuple[str, Kind, str], ...] = (
    ("requested lease not found", Kind.NO_LEASE, ""),
    ("lease already exists", Kind.HAS_LEASE, ""),
    ("invalid auth token", Kind.STALE_LOGIN, ""),
    ("revision of auth store is old", Kind.STALE_LOGIN, ""),
    ("user name is empty", Kind.STALE_LOGIN, ""),
    ("permission denied", Kind.DENIED, "grant this user a role with read and write rights on the prefix"),
    ("user name already exists", Kind.EXISTS, "give it another name"),
    ("role name already exists", Kind.EXISTS, "give it another name"),
    ("user name not found", Kind.ABSENT, "check the name"),
    ("role name not found", Kind.ABSENT, "check the name"),
    ("role is not granted to the user", Kind.ABSENT, "check the name"),
    ("authentication is not enabled", Kind.NO_AUTH, "enable authentication on etcd, or do not log in"),
    ("authentication failed", Kind.REFUSED, "check the user's name and password"),
    (
        "database space exceeded",
        Kind.FULL,
        "compact and defragment etcd, or raise its quota, then run `etcdctl alarm disarm`",
    ),
    ("request is too large", Kind.REFUSED, "send less at once, or raise etcd's --max-request-bytes"),
    ("larger than max", Kind.REFUSED, "send less at once, or raise etcd's --max-request-bytes"),
    ("too many operations", Kind.REFUSED, "raise etcd's --max-txn-ops"),
    ("too many requests", Kind.BUSY, ""),
    ("leader changed", Kind.BROKEN, ""),
    ("no leader", Kind.UNSENT, ""),
    ("rpc not supported for learner", Kind.UNSENT, ""),
)

_NEVER_SENT = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed", "empty address list")

_BROKEN_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


def explain(error: grpc.RpcError, budget: float) -> Failure:
    """Read what a call that was given `budget` seconds ended with."""
    code: grpc.StatusCode = error.code()
    details: str = error.details() or ""
    failure = explain_text(details)
    if failure is not None:
        return evolve(failure, cause=error)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Failure(Kind.UNSENT, "answers, but not as etcd", cause=error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure(Kind.BROKEN, f"no answer in {budget:.1f} s", timed_out=True, cause=error)
    if code in _BROKEN_CODES:
        kind = Kind.UNSENT if details.startswith(_NEVER_SENT) else Kind.BROKEN
        return Failure(kind, _shorten(details), from_etcd=details.startswith("etcdserver:"), cause=error)
    reason = details.removeprefix("etcdserver: ") or code.name
    return Failure(Kind.REFUSED, reason, "its log may say more", from_etcd=True, cause=error)


def explain_text(text: str) -> Failure | None:
    """Read one of etcd's own sentences; None when it is not a known one."""
    for words, kind, advice in _SAID_BY_ETCD:
        if words in text:
            return Failure(kind, text.removeprefix("etcdserver: ").removeprefix("mvcc: "), advice, from_etcd=True)
    return None


# gRPC's words → ours. The first that matches decides.
_SAID_BY_GRPC: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"connection refused", "connection refused"),
        (r"no route to host", "no route to host"),
        (r"network is unreachable", "network is unreachable"),
        (r"domain name not found|name or service not known|errors resolving|DNS resolution failed", "name not known"),
        (r"SETTINGS frame as the first|http1\.x server", "answers, but not as etcd"),
        (r"before receiving SETTINGS|timed out|timeout occurred|FD shutdown", "no answer to the attempt to connect"),
        (r"WRONG_VERSION_NUMBER", "TLS handshake failed: the other side does not speak TLS"),
        (r"handshake read failed|handshake write failed|handshaker shutdown", "TLS handshake failed: no answer"),
        # By TLS 1.3 a refusal comes after our side of the handshake, and gRPC says no more than that it cannot unwrap it.
        (r"ALERT_(BAD_CERTIFICATE|CERTIFICATE_REQUIRED|UNKNOWN_CA)|failed to connect.*unwrap failed",
         "TLS handshake failed: refused by the other side (does it ask for a client certificate that it trusts?)"),
        (r"keepalive|ping timeout", "connection lost: no answer to a ping"),
        (r"failed to connect.*(socket closed|connection reset|endpoint closing)",
         "connection closed at once (does it ask for TLS?)"),
        (r"socket closed|connection reset|broken pipe|goaway|endpoint closing|stream removed|RST_STREAM|recvmsg"
         r"|unwrap failed",
         "connection lost"),
    )
)  # fmt: skip

_TLS_DETAIL = re.compile(
    r"(?:tls|ssl) handshake failed.*?:SSL routines:\w*:(?P<what>[^:]+)(?P<more>: [^:]+)?", re.IGNORECASE
)


def _shorten(details: str) -> str:
    """The human part of gRPC's long sentences."""
    for pattern, reason in _SAID_BY_GRPC:
        if pattern.search(details):
            return reason
    tls = _TLS_DETAIL.search(details)
    if tls is not None:
        words = tls["what"].lower().replace("_", " ") + (tls["more"] or "")
        return f"TLS handshake failed: {words}"
    if "handshake failed" in details.lower():
        return "TLS handshake failed"
    last = details.rpartition("last error: ")[2].removeprefix("etcdserver: ")
    return last[:120] or "connection lost"
