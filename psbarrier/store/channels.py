"""One gRPC channel at a time, to one of the endpoints; the next one when it fails.

gRPC could balance over all endpoints by itself, but then nobody could say which endpoint failed, and how; nor would a
channel read its certificates again.

A broken channel is left, not repaired: gRPC's own reconnecting keeps the old certificates and its own back-off.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from psbarrier.errors import ClosedError
from psbarrier.home import Home
from psbarrier.store import compat
from psbarrier.store.base import Clock
from psbarrier.store.endpoints import grpc_target
from psbarrier.store.tls import TLS

# etcd answers a spec of 10,000 members (about 1 MB), and snapshots of as many registrations, in one message; gRPC's
# own limit is 4 MiB.
_LARGEST_ANSWER = 64 * 1024 * 1024

# etcd cuts a client that pings more often than every 5 s; and only a ping notices a peer that vanished silently.
_PING_EVERY_MS = 10_000
_PING_ANSWER_MS = 5_000


# The process that has opened a channel. gRPC does not survive a fork, not even for channels of the child's own: its
# threads are gone, and its locks stay as they were.
_grpc: Home | None = None


class LinkError(Exception):
    """Something on our side keeps us from talking to `endpoint`: `reason`. `timed_out`: it is only that time is up."""

    def __init__(self, endpoint: str, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint = endpoint
        self.reason = reason
        self.timed_out = timed_out


class Link:
    """One channel to `endpoint`, for as long as it works."""

    def __init__(self, endpoint: str, channel: grpc.Channel, *, shared: bool) -> None:
        self.endpoint = endpoint
        self.answered = False  # etcd has answered a request on it
        self.heard = 0.0  # when it last was plain that it works
        self.retired = False
        self.users = 0
        self.on_retired: list[Callable[[], None]] = []
        self._channel = channel
        self._shared = shared

    # Not from etcd3's stubs, which make all calls of a service at once: those that a process does not use would cost it more
    # time at its start than those that it does.

    @cached_property
    def txn(self) -> Callable[..., Any]:
        """Takes bytes (see request.py)."""
        return self._channel.unary_unary("/etcdserverpb.KV/Txn", None, compat.load().TxnResponse.FromString)

    @cached_property
    def range(self) -> Callable[..., Any]:
        """Takes bytes, too."""
        return self._channel.unary_unary("/etcdserverpb.KV/Range", None, compat.load().RangeResponse.FromString)

    @cached_property
    def grant(self) -> Callable[..., Any]:
        return self._unary("Lease/LeaseGrant", "LeaseGrant")

    @cached_property
    def revoke(self) -> Callable[..., Any]:
        return self._unary("Lease/LeaseRevoke", "LeaseRevoke")

    @cached_property
    def keep_alive(self) -> Callable[..., Any]:
        return self._stream("Lease/LeaseKeepAlive", "LeaseKeepAlive")

    @cached_property
    def watch(self) -> Callable[..., Any]:
        return self._stream("Watch/Watch", "Watch")

    @cached_property
    def status(self) -> Callable[..., Any]:
        return self._unary("Maintenance/Status", "Status")

    @cached_property
    def member_list(self) -> Callable[..., Any]:
        return self._unary("Cluster/MemberList", "MemberList")

    def _unary(self, method: str, message: str) -> Callable[..., Any]:
        return self._channel.unary_unary(f"/etcdserverpb.{method}", *_codec(message))

    def _stream(self, method: str, message: str) -> Callable[..., Any]:
        return self._channel.stream_stream(f"/etcdserverpb.{method}", *_codec(message))

    def authenticate(self, user: str, password: str, timeout: float) -> Any:
        """Begin to log in: gRPC's future of the answer, which has the token."""
        rpc = compat.load()
        request = rpc.AuthenticateRequest(name=user, password=password)
        return rpc.AuthStub(self._channel).Authenticate.future(request, timeout=timeout)

    @property
    def auth(self) -> Any:
        """The service that users and roles are managed with."""
        return compat.load().AuthStub(self._channel)

    def close(self) -> None:
        """End every call on the channel; a channel that belongs to somebody else stays open."""
        if not self._shared:
            self._channel.close()


def _codec(message: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """What writes such requests, and reads such responses."""
    rpc = compat.load()
    return getattr(rpc, f"{message}Request").SerializeToString, getattr(rpc, f"{message}Response").FromString


class Channels:
    """Hands out the link that works, and moves on when told that it does not. Safe from any thread.

    `connect_timeout` bounds one attempt to connect, in seconds. With `channel`, there is that one only: it is used,
    never closed, and reconnects as gRPC does.
    """

    def __init__(
        self,
        addresses: tuple[str, ...],
        *,
        tls: TLS | None,
        connect_timeout: float,
        clock: Clock,
        channel: grpc.Channel | None = None,
    ) -> None:
        self.addresses = addresses
        self.closed = False
        self._tls = tls
        self._options = _channel_options(connect_timeout)
        self._clock = clock
        self._shared_channel = channel
        self._changed = threading.Condition()
        self._position = 0
        self._link: Link | None = None
        self._home: Home | None = None
        self._at_home = 0  # the process in which all may be used, once that has been found out

    @property
    def endpoint(self) -> str:
        """The endpoint that is used now."""
        return self.addresses[self._position]

    @property
    def forked(self) -> bool:
        """This process is a child of the one that has used these channels; nothing of gRPC works in it."""
        return self._home is not None and self._home.left

    def acquire(self) -> Link:
        """The link to use now; give it back with release().

        Raises ForkError, ClosedError, and LinkError when the TLS files cannot be read.
        """
        self.check_usable()
        with self._changed:
            if self.closed:
                raise _closed()
            if self._link is None:
                self._link = self._connect()
            self._link.users += 1
            return self._link

    def release(self, link: Link) -> None:
        """The caller is done with `link`; its last user closes a retired one."""
        with self._changed:
            link.users -= 1
            unused = link.retired and link.users == 0
        if unused:
            link.close()

    def retire(self, link: Link) -> None:
        """`link` does not work: whoever comes next gets another; streams on it are told to move. Idempotent.

        Calls of other threads on it go on: they may still be answered.
        """
        with self._changed:
            if link.retired:
                return
            link.retired = True
            if self._link is link:
                self._link = None
                self._position = (self._position + 1) % len(self.addresses)
            listeners = list(link.on_retired)
        for listener in listeners:
            listener()

    def pause(self, seconds: float, until: float) -> None:
        """Wait for `seconds`, not beyond `until`, and not when the store is closed."""
        end = min(self._clock.now() + seconds, until)
        with self._changed:
            while not self.closed and self._clock.now() < end:
                self._clock.wait(self._changed, end)

    def check_usable(self) -> None:
        """Raise ForkError in a forked child, and ClosedError in a closed store.

        Takes no lock: in the moment of the fork another thread may have held it.
        """
        if os.getpid() != self._at_home:
            self._home = self._home or Home("this EtcdStore")
            self._home.require()
            if _grpc is not None:
                _grpc.require()
            self._at_home = os.getpid()
        if self.closed:
            raise _closed()

    def close(self) -> None:
        """End all calls; idempotent. Not for a forked child."""
        with self._changed:
            self.closed = True
            link, self._link = self._link, None
            self._changed.notify_all()
        if link is not None:
            link.close()

    def _connect(self) -> Link:
        global _grpc
        _grpc = _grpc or Home("gRPC, which psbarrier has used,")
        if self._shared_channel is not None:
            return Link(self.endpoint, self._shared_channel, shared=True)
        target = grpc_target(self.endpoint)
        if self._tls is None:
            return Link(self.endpoint, grpc.insecure_channel(target, options=self._options), shared=False)
        try:
            credentials = _credentials(self._tls)
        except OSError as error:
            endpoint = self.endpoint
            self._position = (self._position + 1) % len(self.addresses)
            raise LinkError(endpoint, f"cannot read the TLS file {error.filename}: {error.strerror}") from error
        return Link(self.endpoint, grpc.secure_channel(target, credentials, options=self._options), shared=False)


def _closed() -> ClosedError:
    return ClosedError("This EtcdStore is closed; open a new one.")


def _credentials(tls: TLS) -> grpc.ChannelCredentials:
    def content(path: Path | None) -> bytes | None:
        return None if path is None else path.read_bytes()

    return grpc.ssl_channel_credentials(
        root_certificates=content(tls.ca), private_key=content(tls.key), certificate_chain=content(tls.cert)
    )


def _channel_options(connect_timeout: float) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", _LARGEST_ANSWER),
        ("grpc.max_send_message_length", _LARGEST_ANSWER),
        ("grpc.keepalive_time_ms", _PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", _PING_ANSWER_MS),
        # gRPC pings for its flow control too, and sends no second ping while such a one waits: by default for 60 s.
        ("grpc.http2.ping_timeout_ms", _PING_ANSWER_MS),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),  # 0: as many as needed; an idle watch sends no data
        # gRPC takes the smallest back-off for the time that an attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", int(connect_timeout * 1000)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Without this, channels to one address share a connection, and with it its failures and its back-off.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.service_config_disable_resolution", 1),  # no TXT look-ups: etcd publishes none
    )
