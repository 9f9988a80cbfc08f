"""The bytes of a transaction are those that protobuf reads the same transaction from."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from psbarrier.store import compat
from psbarrier.store.base import Compare, Delete, Op, Put, Range, Txn
from psbarrier.store.request import BYTES, range_bytes, txn_bytes

# Each length, and each number, takes another byte from 128, from 16,384, … on.
_keys = st.text(st.characters(codec="ascii"), min_size=1, max_size=300) | st.binary(min_size=1, max_size=20).map(
    lambda raw: raw.decode(*BYTES)
)
_ends = st.none() | _keys
_whole = st.integers(0, 300) | st.integers(0, 2**63 - 1) | st.integers(-(2**63), 2**63 - 1)
_values = st.binary(max_size=300)

_compares = st.builds(
    Compare,
    _keys,
    st.sampled_from(["create", "mod", "version", "lease"]),
    st.sampled_from(["==", "!=", "<", ">"]),
    _whole,
) | st.builds(Compare, _keys, st.just("value"), st.sampled_from(["==", "!=", "<", ">"]), _values, _ends)
_ranges = st.builds(Range, _keys, _ends, st.integers(0, 2**40), st.booleans(), st.booleans())
_ops = _ranges | st.builds(Put, _keys, _values, _whole) | st.builds(Delete, _keys, _ends)


def _txns(ops: st.SearchStrategy[Op]) -> st.SearchStrategy[Txn]:
    return st.builds(
        Txn,
        st.lists(_compares, max_size=4).map(tuple),
        st.lists(ops, max_size=4).map(tuple),
        st.lists(ops, max_size=4).map(tuple),
    )


_nested = _txns(_ops | _txns(_ops))

_TARGETS = {"version": 0, "create": 1, "mod": 2, "value": 3, "lease": 4}
_FIELDS = {"create": "create_revision", "mod": "mod_revision"}
_RESULTS = {"==": 0, ">": 1, "<": 2, "!=": 3}


def _message(txn: Txn) -> Any:
    """The same, as protobuf's own message."""
    message = compat.load().TxnRequest()
    _fill(message, txn)
    return message


def _fill(message: Any, txn: Txn) -> None:
    for compare in txn.compares:
        one = message.compare.add(result=_RESULTS[compare.op], target=_TARGETS[compare.target], key=_raw(compare.key))
        setattr(one, _FIELDS.get(compare.target, compare.target), compare.value)
        one.range_end = _raw(compare.end)
    for ops, branch in ((txn.then, message.success), (txn.otherwise, message.failure)):
        for op in ops:
            _fill_op(branch.add(), op)


def _fill_op(message: Any, op: Op) -> None:
    if isinstance(op, Range):
        inner = message.request_range
        inner.limit, inner.keys_only, inner.count_only = op.limit, op.keys_only, op.count_only
        inner.key, inner.range_end = _raw(op.key), _raw(op.end)
    elif isinstance(op, Put):
        inner = message.request_put
        inner.key, inner.value, inner.lease = _raw(op.key), op.value, op.lease
    elif isinstance(op, Delete):
        inner = message.request_delete_range
        inner.key, inner.range_end = _raw(op.key), _raw(op.end)
    else:
        message.request_txn.SetInParent()
        _fill(message.request_txn, op)


def _raw(key: str | None) -> bytes:
    return b"" if key is None else key.encode(*BYTES)


@given(_nested)
def test_protobuf_reads_the_same_transaction(txn: Txn) -> None:
    """Every compare, every operation, every length."""
    message = _message(txn)
    assert type(message).FromString(txn_bytes(txn)) == message


@given(_ranges)
def test_protobuf_reads_the_same_read(op: Range) -> None:
    """Alone, as in a transaction."""
    message = _message(Txn(then=(op,))).success[0].request_range
    assert type(message).FromString(range_bytes(op)) == message
