"""EtcdStore: the six verbs of psbarrier.store.base, spoken to a real etcd.

EtcdStore ── Calls ────── txn, read, grant, revoke: one gRPC call each, in the caller's thread
          ├─ KeepAlives ─ keep: one stream and two threads for all leases
          └─ Watching ─── watch: one stream and two threads for all watches
all three over Channels (which endpoint) and Login (who we are)
"""

from __future__ import annotations

import functools
import math
import secrets
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from psbarrier.errors import InvalidArgumentError
from psbarrier.shelter import dismiss, sheltered
from psbarrier.store import compat, wire
from psbarrier.store.access import Access
from psbarrier.store.accounts import Accounts
from psbarrier.store.base import Clock, Range, Sink, Txn, TxnReply, prefix_end
from psbarrier.store.calls import Calls
from psbarrier.store.channels import Channels
from psbarrier.store.clock import SystemClock
from psbarrier.store.endpoints import Endpoints, parse_endpoints
from psbarrier.store.failures import Kind
from psbarrier.store.keepalive import KeepAlives, LeaseKeeping
from psbarrier.store.login import Login
from psbarrier.store.maintenance import ServerStatus, read_status
from psbarrier.store.notice import Notice
from psbarrier.store.password import PasswordFile
from psbarrier.store.prefix_watch import PrefixWatch
from psbarrier.store.request import range_bytes, txn_bytes
from psbarrier.store.tls import TLS
from psbarrier.store.watching import Watching

# Whoever imports this is about to talk to etcd, and a hundred processes that begin to talk at once should have it behind them.
compat.load()

# close() gives its threads so many seconds to end.
_CLOSING = 2.0

# An endpoint that swallows connection attempts must not use up the time of a request: the next one is to be asked
# within it. Seconds.
_LONGEST_CONNECT = 3.0

# With one endpoint, nobody else could log us in sooner; this is what five hundred logins at once may take. Seconds.
_LOGIN = 30.0

R = TypeVar("R")
P = ParamSpec("P")


def _verb(method: Callable[Concatenate[EtcdStore, P], R]) -> Callable[Concatenate[EtcdStore, P], R]:
    """`method`, done in the shelter; refused at once, before it takes a lock, in a forked child and a closed store."""
    done = sheltered(method)

    @functools.wraps(method)
    def call(self: EtcdStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self._channels.check_usable()
        return done(self, *args, **kwargs)

    return call


class EtcdStore:
    """psbarrier.store.base.Store over one etcd cluster. Safe to use from any thread; opens nothing until it is used.

    `endpoints` is "host:port[,host:port…]" (http:// and https:// prefixes are understood), a sequence of such, or an
    `etcd3.Etcd3Client`, whose channel is then used and never closed. One endpoint is used at a time, the next when it
    fails.

    `tls` is the TLS to use; https:// alone means TLS with gRPC's own authorities. `user` and `password` log in;
    `password` may be a callable, called at each login. A password is sent over plain text only with
    `allow_plaintext_password`.

    `timeout`, in seconds, bounds one attempt of one request, so it also says how soon an endpoint that hangs is left.

    A store that is used for longer than ten seconds warns in the log of an etcd whose version has known bugs, once in a
    process; not if the caller tells of them itself (`tell_of_bugs`).

    Raises InvalidArgumentError for what can never work. A child process that was forked from one that had used its
    store, or any other, gets ForkError: gRPC does not survive a fork.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] | Any,
        *,
        tls: TLS | None = None,
        user: str | None = None,
        password: str | Callable[[], str] | None = None,
        timeout: float = 5.0,
        clock: Clock | None = None,
        allow_plaintext_password: bool = False,
        prefix: str = "/psbarrier",
        tell_of_bugs: bool = True,
    ) -> None:
        if not (isinstance(timeout, (int, float)) and math.isfinite(timeout) and timeout > 0):
            raise InvalidArgumentError(f"timeout must be a number of seconds above 0, not {timeout!r}.")
        client = _client(endpoints)
        parsed = _of_client(client) if client is not None else parse_endpoints(endpoints)
        tls = _effective_tls(parsed, tls, client)
        secure = bool(parsed.secure) or tls is not None
        _check_login(user, password, secure=secure or allow_plaintext_password)
        self._prefix = prefix
        self._clock: Clock = clock or SystemClock()
        self._timeout = float(timeout)
        self._secure, self._tls, self._plaintext, self._lent = secure, tls, allow_plaintext_password, client is not None
        patience = _LOGIN if len(parsed.addresses) == 1 else 3 * self._timeout
        self._login = Login(user, password, self._clock, patience, token=_token(client))
        self._channels = Channels(
            parsed.addresses,
            tls=tls,
            connect_timeout=min(self._timeout / 2, _LONGEST_CONNECT),
            clock=self._clock,
            channel=None if client is None else client.channel,
        )
        answered = Notice(self._clock.now).answered if tell_of_bugs else None
        self._calls = Calls(self._channels, self._login, self._clock, self._timeout, answered)
        self._accounts = Accounts(self._calls, confidential=secure or allow_plaintext_password)
        shared = (self._channels, self._login, self._clock, self._timeout)
        self._keep_alives = KeepAlives(*shared, read=self._read_anything)
        self._watching = Watching(*shared, read=self._read_prefix)

    @classmethod
    def of(cls, access: Access) -> Self:
        """A store on the etcd that `access` leads to."""
        files = (access.ca, access.cert, access.key)
        return cls(
            access.endpoints,
            prefix=access.prefix,
            tls=TLS(*files) if access.tls else None,
            user=access.user,
            password=PasswordFile(access.password_file) if access.password_file else access.password,
            timeout=access.timeout,
            allow_plaintext_password=access.allow_plaintext_password,
        )

    @property
    def access(self) -> Access:
        """What leads another process to the same etcd, the password included.

        Raises InvalidArgumentError for a store on an Etcd3Client, which does not tell it.
        """
        if self._lent:
            raise InvalidArgumentError(
                "An Etcd3Client does not tell how to reach its etcd and log in there, so no other process can be told: "
                "give connect() the endpoints themselves."
            )
        return Access.of(
            self._tls,
            self._login.password,
            endpoints=self.endpoints,
            prefix=self.prefix,
            timeout=self._timeout,
            user=self._login.user,
            allow_plaintext_password=self._plaintext,
        )

    @property
    def clock(self) -> Clock:
        """Where this store's time comes from."""
        return self._clock

    @property
    def prefix(self) -> str:
        """Below which psbarrier's keys lie."""
        return self._prefix

    @property
    def request_timeout(self) -> float:
        """Seconds that one attempt of a request may take."""
        return self._timeout

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses of etcd, as "host:port"."""
        return self._channels.addresses

    @property
    def accounts(self) -> Accounts:
        """etcd's users and roles, for an administrator."""
        return self._accounts

    @_verb
    def server_status(self, until: float) -> ServerStatus:
        """How the etcd that answers is. With one endpoint only, that is the one meant.

        Raises StoreUnavailableError, and StoreRefusedError for a failed login.
        """
        return read_status(self._calls, self._channels.endpoint, until)

    @_verb
    def probe(self, until: float) -> None:
        """Return once an etcd has answered, with its consent or with "permission denied".

        Raises StoreUnavailableError when none did, and StoreRefusedError for a failed login.
        """
        request = range_bytes(Range("psbarrier", count_only=True))
        self._calls.send(lambda link: link.range, request, until=until, repeat=True, accept=Kind.DENIED)

    @_verb
    def txn(self, txn: Txn, *, until: float) -> TxnReply:
        """Decide `txn`; see psbarrier.store.base.Store. Sent again only when it certainly was not sent before."""
        if len(txn.then) == 1 and isinstance(txn.then[0], Range) and not (txn.compares or txn.otherwise):
            return self._read(txn.then, until)
        request = txn_bytes(txn)
        return wire.txn_reply(self._calls.send(lambda link: link.txn, request, until=until, repeat=False))

    @_verb
    def read(self, *ranges: Range, until: float) -> TxnReply:
        """Read all `ranges` at one revision, linearizably."""
        return self._read(ranges, until)

    def _read(self, ranges: tuple[Any, ...], until: float) -> TxnReply:
        if len(ranges) == 1:  # an etcd without space refuses every transaction, but not this
            request = range_bytes(ranges[0])
            return wire.range_reply(self._calls.send(lambda link: link.range, request, until=until, repeat=True))
        request = txn_bytes(Txn(then=ranges))
        return wire.txn_reply(self._calls.send(lambda link: link.txn, request, until=until, repeat=True))

    @_verb
    def grant(self, ttl: int, *, until: float) -> int:
        """A new lease of `ttl` seconds (etcd makes it longer when it is below its own minimum, about 2 s)."""
        lease = secrets.randbits(63) or 1
        request = compat.load().LeaseGrantRequest(TTL=ttl, ID=lease)
        # With an id of ours, "lease already exists" is the answer to a repeat of what had succeeded.
        self._calls.send(lambda link: link.grant, request, until=until, repeat=True, accept=Kind.HAS_LEASE)
        return lease

    @_verb
    def revoke(self, lease: int, *, until: float) -> None:
        """End `lease`; one that is already gone is fine."""
        request = compat.load().LeaseRevokeRequest(ID=lease)
        self._calls.send(lambda link: link.revoke, request, until=until, repeat=True, accept=Kind.NO_LEASE)

    @_verb
    def keep(
        self, lease: int, *, interval: float, on_beat: Callable[[float, int], None], first: float = 0.0
    ) -> LeaseKeeping:
        """Keep `lease` alive; see psbarrier.store.base.Store."""
        return self._keep_alives.keep(lease, interval, on_beat, first)

    @_verb
    def watch(self, prefix: str, sink: Sink, *, until: float) -> PrefixWatch:
        """Watch every key below `prefix` from now on; see psbarrier.store.base.Store. Not to be called by a sink.

        When etcd comes back with another history (restored, or empty), the sink gets a snapshot whose revision may be
        lower than what it saw before. That is noticed by the cluster's id or by a revision that went backwards; an
        etcd with the same id that has meanwhile overtaken the last revision cannot be told apart.
        """
        return self._watching.open(prefix, sink, until)

    def close(self) -> None:
        """Stop every watch and keep-alive and join the threads; takes about 2 s at most. Leases go on. Idempotent.

        In a forked child it is closed for that alone, and the parent's goes on.
        """
        if self._channels.forked:
            self._channels.closed = True
        else:
            self._close()
            dismiss()

    @sheltered
    def _close(self) -> None:
        self._keep_alives.shut()
        self._watching.shut()
        self._channels.close()
        until = self._clock.now() + _CLOSING
        self._keep_alives.join(until)
        self._watching.join(until)

    def _read_anything(self) -> None:
        self.probe(self._clock.now() + self._timeout)

    def _read_prefix(self, prefix: str) -> TxnReply:
        return self.read(Range(prefix, end=prefix_end(prefix)), until=self._clock.now() + self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        words = ["EtcdStore", ",".join(self.endpoints)]
        if self._secure:
            words.append("with TLS")
        if self._login.user:
            words.append(f"as {self._login.user}")
        if self._channels.closed:
            words.append("closed")
        elif len(self.endpoints) > 1:
            words.append(f"using {self._channels.endpoint}")
        return f"<{' '.join(words)}>"


def _client(endpoints: Any) -> Any | None:
    """The Etcd3Client that was given in place of endpoints. Whoever has one has imported etcd3."""
    kind = getattr(sys.modules.get("etcd3"), "Etcd3Client", None)  # another thread may be in the middle of importing it
    return endpoints if kind is not None and isinstance(endpoints, kind) else None


def _of_client(client: Any) -> Endpoints:
    return Endpoints((str(client._url),), secure=bool(client.uses_secure_channel))


def _token(client: Any | None) -> str | None:
    metadata = dict(client.metadata or ()) if client is not None else {}
    return metadata.get("token")


def _effective_tls(endpoints: Endpoints, tls: TLS | None, client: Any | None) -> TLS | None:
    if client is not None:
        if tls is not None:
            raise InvalidArgumentError("An Etcd3Client brings its own TLS: give tls to the client, or give endpoints.")
        return None
    if tls is not None and endpoints.secure is False:
        raise InvalidArgumentError("tls was given for http:// endpoints: write https://, or leave tls out.")
    return TLS() if tls is None and endpoints.secure else tls


def _check_login(user: str | None, password: object, *, secure: bool) -> None:
    if (user is None) != (password is None):
        raise InvalidArgumentError("A login needs both user and password: give both, or none.")
    if user is not None and not secure:
        raise InvalidArgumentError(
            f"The password of user {user!r} would cross the network in plain text: use TLS (https:// endpoints, or a CA), "
            "or, where nobody else can read the network, say allow_plaintext_password=True, --allow-plaintext-password "
            "or PSBARRIER_ALLOW_PLAINTEXT_PASSWORD=1."
        )
