"""Transactions and reads in the bytes that etcd reads them from.

A barrier is one transaction, and the caches of a processor that did something else meanwhile are cold: messages of protobuf,
filled field by field, take twice as long there as these few lines. protobuf's wire format
(https://protobuf.dev/programming-guides/encoding/) is a sequence of fields: a tag, which is eight times the field's number plus
0 for a number or 2 for bytes, and then the number, or the length and the bytes. The fields are those in etcd's
rpc.proto (https://github.com/etcd-io/etcd/blob/v3.5.0/api/etcdserverpb/rpc.proto); all but one are numbered below 16, so that a
tag is a single byte. The bytes are put together in each place by hand, for a function's call costs as much as all it would do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from psbarrier.store.base import Compare, Delete, Op, Put, Range, Txn

# etcd's keys are any bytes, and a stranger may write some below our prefix. Bytes that are not UTF-8 become characters
# that stand for them, so that every key can be read, named, and asked for again.
BYTES = ("utf-8", "surrogateescape")

# What Compare begins with: CompareResult, CompareTarget, and the tag of the key. Then the tag of the field with the value.
_RESULTS = {"==": b"\x08\x00", ">": b"\x08\x01", "<": b"\x08\x02", "!=": b"\x08\x03"}
_TARGETS = {"version": 0, "create": 1, "mod": 2, "value": 3, "lease": 4}
_HEADS = {
    (target, op): result + bytes((0x10, number, 0x1A))
    for target, number in _TARGETS.items()
    for op, result in _RESULTS.items()
}
_VALUES = {"version": b"\x20", "create": b"\x28", "mod": b"\x30", "lease": b"\x40"}
_RANGE_END_OF_COMPARE = b"\x82\x04"


def txn_bytes(txn: Txn) -> bytes:
    """The TxnRequest that asks for `txn`."""
    parts: list[bytes] = []
    for compare in txn.compares:
        written = _compare(compare)
        parts += (b"\x0a", _number(len(written)), written)
    for tag, ops in ((b"\x12", txn.then), (b"\x1a", txn.otherwise)):
        for op in ops:
            written = _OPS[type(op)](op)
            parts += (tag, _number(len(written)), written)
    return b"".join(parts)


def range_bytes(op: Range) -> bytes:
    """The RangeRequest that reads `op`, linearizably."""
    written = _span(op)
    if op.limit:
        written += b"\x18" + _number(op.limit)
    if op.keys_only:
        written += b"\x40\x01"
    if op.count_only:
        written += b"\x48\x01"
    return written


@lru_cache(maxsize=4096)
def _number(value: int) -> bytes:
    """`value` as protobuf writes an int64: seven bits a byte, the lowest first."""
    left, written = value & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    written.append(left)
    return bytes(written)


def _compare(compare: Compare) -> bytes:
    key, value = compare.key.encode(*BYTES), compare.value
    head = _HEADS[compare.target, compare.op]
    if isinstance(value, bytes):
        written = head + _number(len(key)) + key + b"\x3a" + _number(len(value)) + value
    else:
        written = head + _number(len(key)) + key + _VALUES[compare.target] + _number(value)
    if compare.end is not None:
        end = compare.end.encode(*BYTES)
        written += _RANGE_END_OF_COMPARE + _number(len(end)) + end
    return written


def _span(op: Range | Delete) -> bytes:
    """Its key, and its end if it has one."""
    key = op.key.encode(*BYTES)
    written = b"\x0a" + _number(len(key)) + key
    if op.end is not None:
        end = op.end.encode(*BYTES)
        written += b"\x12" + _number(len(end)) + end
    return written


def _range(op: Range) -> bytes:
    written = range_bytes(op)
    return b"\x0a" + _number(len(written)) + written


def _put(op: Put) -> bytes:
    key = op.key.encode(*BYTES)
    written = b"\x0a" + _number(len(key)) + key
    if op.value:
        written += b"\x12" + _number(len(op.value)) + op.value
    if op.lease:
        written += b"\x18" + _number(op.lease)
    return b"\x12" + _number(len(written)) + written


def _delete(op: Delete) -> bytes:
    written = _span(op)
    return b"\x1a" + _number(len(written)) + written


def _nested(op: Txn) -> bytes:
    written = txn_bytes(op)
    return b"\x22" + _number(len(written)) + written


_OPS: dict[type[Op], Callable[[Any], bytes]] = {Range: _range, Put: _put, Delete: _delete, Txn: _nested}
