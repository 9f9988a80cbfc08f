"""Transactions and reads: what psbarrier.store.base promises, held to MemoryStore and to a real etcd alike."""

from __future__ import annotations

import threading

import pytest

from psbarrier.store.base import (
    Compare,
    Delete,
    DeleteResult,
    Put,
    PutResult,
    Range,
    RangeResult,
    Store,
    Txn,
    TxnReply,
    prefix_end,
)
from store.helpers import in_threads, soon


def do(store: Store, *ops: Range | Put | Delete | Txn) -> TxnReply:
    """One transaction without compares."""
    return store.txn(Txn(then=ops), until=soon(store))


def holds(store: Store, *compares: Compare) -> bool:
    """Whether all `compares` hold."""
    return store.txn(Txn(compares), until=soon(store)).succeeded


def test_put_counts_create_mod_and_version_as_etcd_does(store: Store, prefix: str) -> None:
    """A key keeps its creation revision while it lives; each write raises version by one; deleting starts anew."""
    first = do(store, Put(prefix + "a", b"1"))
    second = do(store, Put(prefix + "a", b"2"))
    kv = store.read(Range(prefix + "a"), until=soon(store)).one(0)
    assert kv is not None
    assert (kv.value, kv.create, kv.mod, kv.version) == (b"2", first.revision, second.revision, 2)
    do(store, Delete(prefix + "a"))
    third = do(store, Put(prefix + "a", b"3"))
    kv = store.read(Range(prefix + "a"), until=soon(store)).one(0)
    assert kv is not None
    assert (kv.create, kv.mod, kv.version, kv.lease) == (third.revision, third.revision, 1, 0)


def test_every_write_of_a_transaction_has_its_one_revision(store: Store, prefix: str) -> None:
    """Nested ones included; the nested reply carries that revision, too."""
    reply = do(store, Put(prefix + "a", b""), Txn(then=(Put(prefix + "b", b""),)), Range(prefix, prefix_end(prefix)))
    assert [kv.mod for kv in reply.many(2)] == [reply.revision] * 2
    assert reply.nested(1).revision == reply.revision
    assert reply.results[0] == PutResult()
    later = do(store, Put(prefix + "a", b""), Txn(then=(Range(prefix + "a"),)))
    assert later.revision > reply.revision
    assert later.nested(1).one(0) == store.read(Range(prefix + "a"), until=soon(store)).one(0)


def test_a_transaction_that_changes_nothing_keeps_the_revision(store: Store, prefix: str) -> None:
    """Reading, and deleting what is not there, do not count as writes."""
    before = do(store, Put(prefix + "a", b"")).revision
    assert do(store, Range(prefix + "a"), Delete(prefix + "none"), Txn(then=(Range(prefix + "a"),))).revision == before
    assert store.read(Range(prefix + "a"), until=soon(store)).revision == before


def test_then_and_otherwise(store: Store, prefix: str) -> None:
    """One branch runs, the reply says which, and holds one result for each of its operations."""
    txn = Txn((Compare(prefix + "a", "create", "==", 0),), (Put(prefix + "a", b"mine"),), (Range(prefix + "a"),))
    won = store.txn(txn, until=soon(store))
    lost = store.txn(txn, until=soon(store))
    assert won.succeeded
    assert not lost.succeeded
    winner = lost.one(0)
    assert winner is not None
    assert winner.value == b"mine"


def test_nested_compares_are_decided_before_any_write(store: Store, prefix: str) -> None:
    """What a transaction writes is invisible to all its compares, and visible to its later ranges."""
    absent = Compare(prefix + "a", "version", "==", 0)
    reply = do(
        store,
        Put(prefix + "a", b"1"),
        Txn((absent,), (Put(prefix + "b", b""), Txn((absent,), (Range(prefix + "a"),)))),
        Range(prefix, prefix_end(prefix)),
    )
    inner = reply.nested(1)
    assert inner.succeeded
    assert inner.nested(1).succeeded
    seen = inner.nested(1).one(0)
    assert seen is not None
    assert seen.value == b"1"
    assert [kv.key for kv in reply.many(2)] == [prefix + "a", prefix + "b"]


def test_a_nested_transaction_of_a_branch_that_is_not_taken_does_nothing(store: Store, prefix: str) -> None:
    """Its compares hold, and do not matter."""
    inner = Txn((), (Put(prefix + "a", b""),))
    reply = store.txn(
        Txn((Compare(prefix + "x", "version", ">", 0),), (inner,), (Range(prefix + "a"),)), until=soon(store)
    )
    assert not reply.succeeded
    assert reply.one(0) is None


def test_of_n_that_arrive_at_once_exactly_one_is_the_last(store: Store, prefix: str) -> None:
    """`version(tick) == N-1`, compared by whoever raises it, is true for one arrival in any order."""
    parties, releases, guard = 8, [], threading.Lock()

    def arrive(number: int) -> None:
        last = Txn((Compare(prefix + "tick", "version", "==", parties - 1),), (Put(prefix + "open", b""),))
        reply = do(store, Put(f"{prefix}arrivals/{number}", b""), Put(prefix + "tick", b""), last)
        with guard:
            releases.append(reply.nested(2).succeeded)

    in_threads(parties, arrive)
    assert sorted(releases) == [False] * (parties - 1) + [True]
    opened = store.read(Range(prefix + "open"), until=soon(store)).one(0)
    assert opened is not None
    assert opened.version == 1


@pytest.mark.parametrize(
    ("target", "value"), [("create", 0), ("mod", 0), ("version", 0), ("lease", 0)], ids=lambda item: str(item)
)
def test_a_missing_key_compares_as_zero(store: Store, prefix: str, target: str, value: int) -> None:
    """Its create, mod, version and lease are 0."""
    assert holds(store, Compare(prefix + "none", target, "==", value))  # type: ignore[arg-type]
    assert not holds(store, Compare(prefix + "none", target, ">", value))  # type: ignore[arg-type]


@pytest.mark.parametrize("op", ["==", "!=", "<", ">"])
def test_a_value_compare_is_false_on_a_missing_key(store: Store, prefix: str, op: str) -> None:
    """Even "differs from": there is no value to compare."""
    assert not holds(store, Compare(prefix + "none", "value", op, b""))  # type: ignore[arg-type]
    assert not holds(store, Compare(prefix, "value", op, b"x", end=prefix_end(prefix)))  # type: ignore[arg-type]


def test_compares_of_a_key(store: Store, prefix: str) -> None:
    """Each target with each operator that fits; values are ordered as bytes."""
    do(store, Put(prefix + "a", b"m"))
    revision = do(store, Put(prefix + "a", b"m")).revision
    key = prefix + "a"
    assert holds(
        store, Compare(key, "version", "==", 2), Compare(key, "version", "<", 3), Compare(key, "create", ">", 0)
    )
    assert holds(store, Compare(key, "mod", "==", revision), Compare(key, "create", "<", revision))
    assert holds(store, Compare(key, "value", "==", b"m"), Compare(key, "value", "!=", b"n"))
    assert holds(store, Compare(key, "value", ">", b"a"), Compare(key, "value", "<", b"mm"))
    assert not holds(store, Compare(key, "version", "==", 2), Compare(key, "version", "!=", 2))


def test_a_range_compare_must_hold_for_every_key(store: Store, prefix: str) -> None:
    """Over an empty range it is evaluated against 0; the end is not part of the range."""
    end = prefix_end(prefix + "d/")
    nothing_below = Compare(prefix + "d/", "create", "==", 0, end=end)
    assert holds(store, nothing_below)
    do(store, Put(prefix + "d/1", b"x"), Put(prefix + "d/2", b"x"), Put(end, b"y"))
    assert not holds(store, nothing_below)
    all_x = Compare(prefix + "d/", "value", "==", b"x", end=end)
    assert holds(store, all_x)
    do(store, Put(prefix + "d/2", b"z"))
    assert not holds(store, all_x)
    assert holds(store, Compare(prefix + "d/", "version", ">", 0, end=end))


def test_ranges_ascend_and_count_what_limit_leaves_out(store: Store, prefix: str) -> None:
    """`count` is that of the range; keys_only has everything but the value; count_only has no keys."""
    do(store, *(Put(prefix + name, b"v") for name in ("c", "a", "b")))
    end = prefix_end(prefix)
    reply = store.read(
        Range(prefix, end),
        Range(prefix, end, limit=2),
        Range(prefix, end, keys_only=True),
        Range(prefix, end, count_only=True),
        Range(prefix + "a", prefix + "c"),
        Range(prefix + "none"),
        Range(prefix, end, limit=1, count_only=True),
        until=soon(store),
    )
    names = [[kv.key.removeprefix(prefix) for kv in reply.many(index)] for index in range(6)]
    assert names == [["a", "b", "c"], ["a", "b"], ["a", "b", "c"], [], ["a", "b"], []]
    assert [reply.ranged(index).count for index in range(7)] == [3, 3, 3, 3, 2, 0, 3]
    assert [kv.value for kv in reply.many(2)] == [b""] * 3
    assert [kv.mod for kv in reply.many(2)] == [kv.mod for kv in reply.many(0)]
    assert reply.results[5] == RangeResult((), 0)


def test_delete_range(store: Store, prefix: str) -> None:
    """It removes [key, end), says how many, and leaves the neighbours."""
    do(store, *(Put(prefix + name, b"") for name in ("a", "d/1", "d/2", "e")))
    reply = do(store, Delete(prefix + "d/", prefix_end(prefix + "d/")), Delete(prefix + "none"))
    assert reply.results == (DeleteResult(2), DeleteResult(0))
    left = store.read(Range(prefix, prefix_end(prefix)), until=soon(store)).many(0)
    assert [kv.key for kv in left] == [prefix + "a", prefix + "e"]


def test_a_read_sees_all_its_ranges_at_one_revision(store: Store, prefix: str) -> None:
    """Two keys that always change together are never read apart, however hard another thread writes."""
    finished = threading.Event()

    def write(_: int) -> None:
        for number in range(100):
            value = str(number).encode()
            do(store, Put(prefix + "a", value), Put(prefix + "b", value))
        finished.set()

    def read(_: int) -> None:
        while not finished.is_set():
            reply = store.read(Range(prefix + "a"), Range(prefix + "b"), until=soon(store))
            left, right = reply.one(0), reply.one(1)
            assert (left and left.value) == (right and right.value)
            assert reply.revision >= (left.mod if left else 0)

    in_threads(2, lambda number: (write, read)[number](number))
