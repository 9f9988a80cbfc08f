"""Plain values ↔ etcd's protobuf messages. (Transactions and reads are not made messages: see request.py.)"""

from __future__ import annotations

from typing import Any

from psbarrier.store import compat
from psbarrier.store.base import (
    KV,
    DeleteResult,
    Event,
    PutResult,
    RangeResult,
    Result,
    TxnReply,
    prefix_end,
)
from psbarrier.store.request import BYTES

_DELETE_EVENT = 1
_PUT_RESULT = PutResult()


def txn_reply(response: Any, revision: int | None = None) -> TxnReply:
    """Read a TxnResponse. A nested one bears no revision of its own on the wire: it gets that of the whole."""
    if revision is None:
        revision = int(response.header.revision)
    results = tuple([_result(op, revision) for op in response.responses])
    return TxnReply(response.succeeded, revision, results)


def _result(op: Any, revision: int) -> Result:
    kind = op.WhichOneof("response")
    if kind == "response_put":
        return _PUT_RESULT
    if kind == "response_range":
        return _range_result(op.response_range)
    if kind == "response_delete_range":
        return DeleteResult(op.response_delete_range.deleted)
    return txn_reply(op.response_txn, revision)


def range_reply(response: Any) -> TxnReply:
    """Read a RangeResponse, as the reply of a transaction that consists of it."""
    return TxnReply(True, response.header.revision, (_range_result(response),))


def _range_result(found: Any) -> RangeResult:
    return RangeResult(tuple([key_value(kv) for kv in found.kvs]), found.count)


def key_value(kv: Any) -> KV:
    """Read one mvccpb.KeyValue."""
    return KV(kv.key.decode(*BYTES), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def event(message: Any) -> Event:
    """Read one mvccpb.Event."""
    return Event(key_value(message.kv), message.type == _DELETE_EVENT)


def watch_request(prefix: str, start: int) -> Any:
    """The WatchRequest that opens a watch below `prefix` at revision `start` (0: from now on)."""
    request = compat.load().WatchRequest()
    create = request.create_request
    create.key = prefix.encode(*BYTES)
    create.range_end = prefix_end(prefix).encode(*BYTES)
    create.start_revision = start
    create.progress_notify = True  # so that an idle watch keeps up, and survives a compaction while disconnected
    return request


def cancel_request(watch_id: int) -> Any:
    """The WatchRequest that ends the server's watch `watch_id`."""
    request = compat.load().WatchRequest()
    request.cancel_request.watch_id = watch_id
    return request
