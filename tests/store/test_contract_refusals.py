"""What a store refuses: what psbarrier.store.base promises, held to MemoryStore and to a real etcd alike."""

from __future__ import annotations

import pytest

from psbarrier.errors import ClosedError, LeaseNotFoundError, StoreRefusedError, StoreUnavailableError
from psbarrier.store.base import Compare, Delete, Put, Range, Store, Txn, TxnReply, prefix_end
from store.helpers import Beats, Recorder, soon


def do(store: Store, *ops: Range | Put | Delete | Txn) -> TxnReply:
    """One transaction without compares."""
    return store.txn(Txn(then=ops), until=soon(store))


@pytest.mark.parametrize(
    "shape",
    [
        "one level",
        "branch not taken",
        "nested",
        "siblings",
        "put in deleted",
        "nested put in deleted",
        "put where a sibling deletes",
    ],
)
def test_a_key_may_be_written_once_only(store: Store, prefix: str, shape: str) -> None:
    """A second put of it, or one inside a deleted range, is refused, branches included, and nothing is applied."""
    put, delete, other = (
        Put(prefix + "d/k", b""),
        Delete(prefix + "d/", prefix_end(prefix + "d/")),
        Put(prefix + "o", b""),
    )
    refused = {
        "one level": Txn(then=(other, put, put)),
        "branch not taken": Txn(then=(other,), otherwise=(put, put)),
        "nested": Txn(then=(other, put, Txn(then=(put,)))),
        "siblings": Txn(then=(other, Txn(then=(put,)), Txn(otherwise=(put,)))),
        "put in deleted": Txn(then=(other, delete, put)),
        "put where a sibling deletes": Txn(then=(other, Txn(otherwise=(delete,)), Txn(then=(put,)))),
        "nested put in deleted": Txn(then=(other, delete, Txn(otherwise=(put,)))),
    }[shape]
    with pytest.raises(StoreRefusedError, match="duplicate key"):
        store.txn(refused, until=soon(store))
    assert store.read(Range(prefix, prefix_end(prefix)), until=soon(store)).ranged(0).count == 0


def test_branches_that_exclude_each_other_may_write_the_same_key(store: Store, prefix: str) -> None:
    """`then` and `otherwise` of one transaction are no duplicates; the end of a deleted range is free, too."""
    inner = Txn((Compare(prefix + "x", "version", "==", 0),), (Put(prefix + "a", b"1"),), (Put(prefix + "a", b"2"),))
    do(store, inner, Delete(prefix + "0", prefix + "a"))
    kv = store.read(Range(prefix + "a"), until=soon(store)).one(0)
    assert kv is not None
    assert kv.value == b"1"


def test_128_operations_are_allowed_and_129_refused(store: Store, prefix: str) -> None:
    """Along any path down the nested transactions."""
    ranges = (Range(prefix + "a"),) * 128
    assert len(do(store, *ranges).results) == 128
    with pytest.raises(StoreRefusedError, match="too many operations"):
        do(store, *ranges, Range(prefix + "a"))
    with pytest.raises(StoreRefusedError, match="too many operations"):
        do(store, *ranges[:100], Txn(then=ranges[:28]))


def test_a_value_over_a_mebibyte_and_a_half_is_refused(store: Store, prefix: str) -> None:
    """One a little below is stored."""
    do(store, Put(prefix + "a", b"x" * 1_572_600))
    with pytest.raises(StoreRefusedError):
        do(store, Put(prefix + "b", b"x" * 1_572_864))
    assert store.read(Range(prefix + "b"), until=soon(store)).one(0) is None
    do(store, Delete(prefix + "a"))


def test_an_unknown_lease_fails_the_whole_transaction(store: Store, prefix: str) -> None:
    """In a branch that is taken, however deep; in one that is not, it does not matter."""
    stray = Put(prefix + "b", b"", lease=4_242_424_242)
    with pytest.raises(LeaseNotFoundError):
        do(store, Put(prefix + "a", b""), Txn(then=(stray,)))
    assert store.read(Range(prefix, prefix_end(prefix)), until=soon(store)).ranged(0).count == 0
    assert store.txn(Txn(then=(Put(prefix + "a", b""),), otherwise=(stray,)), until=soon(store)).succeeded


def test_nothing_is_sent_after_its_deadline(store: Store, prefix: str) -> None:
    """A request without time left fails, certainly not applied."""
    late = store.clock.now()
    for call in (
        lambda: store.txn(Txn(then=(Put(prefix + "a", b""),)), until=late),
        lambda: store.read(Range(prefix + "a"), until=late),
        lambda: store.grant(60, until=late),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            call()
        assert caught.value.applied is False
    assert store.read(Range(prefix + "a"), until=soon(store)).one(0) is None


def test_a_closed_store_says_so(store: Store, prefix: str) -> None:
    """Every verb raises ClosedError; closing again does nothing."""
    lease = store.grant(60, until=soon(store))
    store.revoke(lease, until=soon(store))
    store.close()
    store.close()
    for call in (
        lambda: do(store, Put(prefix + "a", b"")),
        lambda: store.read(Range(prefix + "a"), until=soon(store)),
        lambda: store.grant(60, until=soon(store)),
        lambda: store.revoke(lease, until=soon(store)),
        lambda: store.keep(lease, interval=1.0, on_beat=Beats()),
        lambda: store.watch(prefix, Recorder(), until=soon(store)),
    ):
        with pytest.raises(ClosedError):
            call()
