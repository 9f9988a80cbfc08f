"""The least that a Python program can do over grpc: request bytes that were prepared, and answers that nobody decodes.

What psbarrier takes beyond that is its own.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc

from psbarrier.store import compat, request, wire
from psbarrier.store.base import Range, Txn


class BareClient:
    """The calls of etcd that a member needs, in bytes, over one channel."""

    def __init__(self, endpoint: str) -> None:
        channel: Any = grpc.insecure_channel(endpoint)
        self.txn = channel.unary_unary("/etcdserverpb.KV/Txn")
        self.read = channel.unary_unary("/etcdserverpb.KV/Range")
        self.grant = channel.unary_unary("/etcdserverpb.Lease/LeaseGrant")
        self._stream = channel.stream_stream

    def watch(self, wanted: bytes) -> Iterator[bytes]:
        """Open a watch; its answers, of which the first says that it stands."""
        return self._open("/etcdserverpb.Watch/Watch", wanted)

    def keep_alive(self, beat: bytes) -> Iterator[bytes]:
        """Keep a lease alive, once; its answers."""
        return self._open("/etcdserverpb.Lease/LeaseKeepAlive", beat)

    def _open(self, method: str, first: bytes) -> Iterator[bytes]:
        requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        requests.put(first)
        answers: Iterator[bytes] = self._stream(method)(iter(requests.get, None))
        return answers


def txn_bytes(txn: Txn) -> bytes:
    """A transaction."""
    return request.txn_bytes(txn)


def range_bytes(op: Range) -> bytes:
    """A read."""
    return request.range_bytes(op)


def watch_bytes(prefix: str) -> bytes:
    """A watch of all that happens below `prefix` from now on."""
    return _bytes(wire.watch_request(prefix, 0))


def grant_bytes(lease: int, ttl: int) -> bytes:
    """A lease whose number the client has chosen, so that all else can be prepared."""
    return _bytes(compat.load().LeaseGrantRequest(ID=lease, TTL=ttl))


def keep_alive_bytes(lease: int) -> bytes:
    """A beat of that lease."""
    return _bytes(compat.load().LeaseKeepAliveRequest(ID=lease))


def _bytes(message: Any) -> bytes:
    made: bytes = message.SerializeToString()
    return made
