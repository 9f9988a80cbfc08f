"""What etcd refuses before it looks at a single key: pure checks over a transaction.

The rules were read off a running etcd 3.5 and are held to it by the differential test. Two of them surprise:

- Both branches count for the duplicate rule, taken or not; but `then` and `otherwise` of one transaction exclude each
  other, so both may put the same key.
- A put clashes with a delete of its own level, of a level above, below, or of an *earlier* sibling. A sibling that
  deletes what an earlier sibling has put is let through, and takes effect in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psbarrier.errors import StoreRefusedError
from psbarrier.store.base import Delete, Op, Put, Txn

MAX_OPERATIONS = 128
"""The most compares, or operations of one branch, on any path down through the nested transactions."""

MAX_REQUEST_BYTES = 1_572_864
"""The largest request that writes: 1.5 MiB."""

_OPERATION_BYTES = 16
_REQUEST_BYTES = 20


def check(txn: Txn) -> None:
    """Raise StoreRefusedError if etcd would refuse `txn` whatever its keyspace holds."""
    _check_shape(txn, MAX_OPERATIONS)
    _written(txn.then)
    _written(txn.otherwise)
    if not _only_reads(txn) and (size := _REQUEST_BYTES + _size(txn)) > MAX_REQUEST_BYTES:
        raise _refused(f"request is too large, about {size} bytes where {MAX_REQUEST_BYTES} are allowed")


def _check_shape(txn: Txn, allowed: int) -> None:
    widest = max(len(txn.compares), len(txn.then), len(txn.otherwise))
    if widest > allowed:
        raise _refused(f"too many operations in txn request, split it into parts of {MAX_OPERATIONS} at most")
    for branch in (txn.compares, txn.then, txn.otherwise):
        for part in branch:
            if isinstance(part, Txn):
                _check_shape(part, allowed - widest)
            elif not part.key:
                raise _refused("key is not provided")


def _written(ops: Sequence[Op]) -> tuple[set[str], list[Delete]]:
    """The keys that `ops` put and what they delete, whichever nested branches are taken; refuses a clash."""
    deletes = [op for op in ops if isinstance(op, Delete)]
    puts: set[str] = set()
    for op in ops:
        if isinstance(op, Txn):
            then_puts, then_deletes = _written(op.then)
            else_puts, else_deletes = _written(op.otherwise)
            below = then_puts | else_puts
            _refuse_clash(below, puts, deletes)
            puts |= below
            deletes += then_deletes + else_deletes
    for op in ops:
        if isinstance(op, Put):
            _refuse_clash((op.key,), puts, deletes)
            puts.add(op.key)
    return puts, deletes


def _refuse_clash(keys: Iterable[str], puts: set[str], deletes: Sequence[Delete]) -> None:
    for key in keys:
        if key in puts or any(_covers(delete, key) for delete in deletes):
            raise _refused(f"duplicate key given in txn request, {key!r} may be written once only")


def _covers(delete: Delete, key: str) -> bool:
    return delete.key == key if delete.end is None else delete.key <= key < delete.end


def _only_reads(txn: Txn) -> bool:
    return not any(isinstance(op, (Put, Delete, Txn)) for op in (*txn.then, *txn.otherwise))


def _size(txn: Txn) -> int:
    """About the bytes that `txn` takes on the wire: exact in keys and values, fair in what frames them."""
    size = 0
    for compare in txn.compares:
        size += _OPERATION_BYTES + len(compare.key)
        if isinstance(compare.value, bytes):
            size += len(compare.value)
    for op in (*txn.then, *txn.otherwise):
        if isinstance(op, Txn):
            size += _OPERATION_BYTES + _size(op)
        else:
            size += _OPERATION_BYTES + len(op.key) + (len(op.value) if isinstance(op, Put) else 0)
    return size


def _refused(why: str) -> StoreRefusedError:
    return StoreRefusedError(f"the store refuses the transaction: {why}")
