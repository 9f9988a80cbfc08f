"""Plain values ↔ etcd's protobuf messages.

A barrier is one transaction, so this is on its path: messages are filled in place, without copies in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psbarrier.store import compat
from psbarrier.store.base import (
    KV,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Op,
    Put,
    PutResult,
    Range,
    RangeResult,
    Result,
    Txn,
    TxnReply,
    prefix_end,
)

# Numbers of etcd's enums: Compare.CompareTarget, with the field that holds the value, and Compare.CompareResult.
_TARGETS = {
    "version": (0, "version"),
    "create": (1, "create_revision"),
    "mod": (2, "mod_revision"),
    "value": (3, "value"),
    "lease": (4, "lease"),
}
_RESULTS = {"==": 0, ">": 1, "<": 2, "!=": 3}
_DELETE_EVENT = 1

# etcd's keys are any bytes, and a stranger may write some below our prefix. Bytes that are not UTF-8 become characters
# that stand for them, so that every key can be read, named, and asked for again.
_BYTES = ("utf-8", "surrogateescape")

_PUT_RESULT = PutResult()


def txn_request(txn: Txn) -> Any:
    """The TxnRequest that asks for `txn`."""
    request = compat.load().TxnRequest()
    _fill_txn(request, txn)
    return request


def range_request(op: Range) -> Any:
    """The RangeRequest that reads `op`, linearizably."""
    request = compat.load().RangeRequest()
    _fill_range(request, op)
    return request


def _fill_txn(request: Any, txn: Txn) -> None:
    for compare in txn.compares:
        _add_compare(request.compare, compare)
    for op in txn.then:
        _FILLERS[type(op)](request.success.add(), op)
    for op in txn.otherwise:
        _FILLERS[type(op)](request.failure.add(), op)


def _add_compare(compares: Any, compare: Compare) -> None:
    target, field = _TARGETS[compare.target]
    message = compares.add(result=_RESULTS[compare.op], target=target, key=compare.key.encode(*_BYTES))
    setattr(message, field, compare.value)
    if compare.end is not None:
        message.range_end = compare.end.encode(*_BYTES)


def _fill_range_op(message: Any, op: Range) -> None:
    _fill_range(message.request_range, op)


def _fill_range(request: Any, op: Range) -> None:
    request.key = op.key.encode(*_BYTES)
    if op.end is not None:
        request.range_end = op.end.encode(*_BYTES)
    if op.limit:
        request.limit = op.limit
    if op.keys_only:
        request.keys_only = True
    if op.count_only:
        request.count_only = True


def _fill_put(message: Any, op: Put) -> None:
    request = message.request_put
    request.key = op.key.encode(*_BYTES)
    request.value = op.value
    if op.lease:
        request.lease = op.lease


def _fill_delete(message: Any, op: Delete) -> None:
    request = message.request_delete_range
    request.key = op.key.encode(*_BYTES)
    if op.end is not None:
        request.range_end = op.end.encode(*_BYTES)


def _fill_nested(message: Any, op: Txn) -> None:
    message.request_txn.SetInParent()  # an empty transaction is still one
    _fill_txn(message.request_txn, op)


_FILLERS: dict[type[Op], Callable[[Any, Any], None]] = {
    Range: _fill_range_op,
    Put: _fill_put,
    Delete: _fill_delete,
    Txn: _fill_nested,
}


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
    return KV(kv.key.decode(*_BYTES), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def event(message: Any) -> Event:
    """Read one mvccpb.Event."""
    return Event(key_value(message.kv), message.type == _DELETE_EVENT)


def watch_request(prefix: str, start: int) -> Any:
    """The WatchRequest that opens a watch below `prefix` at revision `start` (0: from now on)."""
    request = compat.load().WatchRequest()
    create = request.create_request
    create.key = prefix.encode(*_BYTES)
    create.range_end = prefix_end(prefix).encode(*_BYTES)
    create.start_revision = start
    create.progress_notify = True  # so that an idle watch keeps up, and survives a compaction while disconnected
    return request


def cancel_request(watch_id: int) -> Any:
    """The WatchRequest that ends the server's watch `watch_id`."""
    request = compat.load().WatchRequest()
    request.cancel_request.watch_id = watch_id
    return request
