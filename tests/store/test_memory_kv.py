"""The pure keyspace, where it is used directly; its agreement with etcd is test_differential's."""

from __future__ import annotations

import pytest

from psbarrier.errors import InvalidArgumentError, LeaseNotFoundError, StoreRefusedError
from psbarrier.store.base import Delete, Put, Range, Txn, prefix_end
from psbarrier.store.memory_kv import MAX_TTL, Keyspace


def test_apply_returns_the_events_in_the_order_of_the_operations() -> None:
    """All with the revision of the reply."""
    keyspace = Keyspace()
    keyspace.apply(Txn(then=(Put("d/1", b""), Put("d/2", b""))))
    reply, events = keyspace.apply(Txn(then=(Put("z", b"1"), Delete("d/", prefix_end("d/")), Put("a", b"2"))))
    assert [(event.kv.key, event.deleted) for event in events] == [
        ("z", False),
        ("d/1", True),
        ("d/2", True),
        ("a", False),
    ]
    assert {event.kv.mod for event in events} == {reply.revision} == {keyspace.revision}


def test_a_transaction_that_fails_leaves_everything_as_it_was() -> None:
    """Refused, or with an unknown lease."""
    keyspace = Keyspace()
    keyspace.apply(Txn(then=(Put("a", b"1"),)))
    before, revision = keyspace.kvs(), keyspace.revision
    with pytest.raises(LeaseNotFoundError):
        keyspace.apply(Txn(then=(Put("a", b"2"), Put("b", b"", 7))))
    with pytest.raises(StoreRefusedError):
        keyspace.apply(Txn(then=(Put("a", b"2"), Put("a", b"3"))))
    with pytest.raises(StoreRefusedError, match="key is not provided"):
        keyspace.apply(Txn(then=(Put("", b"2"),)))
    assert (keyspace.kvs(), keyspace.revision) == (before, revision)


def test_a_copy_is_independent() -> None:
    """In keys, revision and leases, both ways."""
    original = Keyspace()
    original.grant(1, 10)
    original.apply(Txn(then=(Put("a", b"", 1),)))
    copy = original.copy()
    assert [event.kv.key for event in copy.revoke(1)] == ["a"]
    copy.apply(Txn(then=(Put("b", b""),)))
    assert [kv.key for kv in original.kvs()] == ["a"]
    assert dict(original.leases) == {1: 10}
    assert [event.kv.key for event in original.expire(1)] == ["a"]
    assert repr(original) == "<Keyspace rev 3, 0 keys, 0 leases>"
    assert repr(copy) == "<Keyspace rev 4, 1 keys, 0 leases>"


def test_granting_twice_changes_nothing() -> None:
    """The lease keeps its TTL and its keys."""
    keyspace = Keyspace()
    assert keyspace.grant(1, 10) == 10
    keyspace.apply(Txn(then=(Put("a", b"", 1),)))
    assert keyspace.grant(1, 99) == 10
    assert len(keyspace.revoke(1)) == 1
    assert keyspace.revoke(1) == ()


def test_leases_that_etcd_does_not_grant() -> None:
    """Too long, or with an id that would mean "none"."""
    keyspace = Keyspace()
    with pytest.raises(StoreRefusedError, match=str(MAX_TTL)):
        keyspace.grant(1, MAX_TTL + 1)
    with pytest.raises(InvalidArgumentError):
        keyspace.grant(0, 10)
    assert keyspace.grant(1, 0) == 2


def test_a_range_without_end_reaches_the_last_key() -> None:
    """etcd's "\\0"; an end below the start is an empty range."""
    keyspace = Keyspace()
    keyspace.apply(Txn(then=(Put("a", b""), Put("b", b""), Put("c", b""))))
    reply, _ = keyspace.apply(Txn(then=(Range("b", "\0"), Range("c", "a"))))
    assert [kv.key for kv in reply.many(0)] == ["b", "c"]
    assert reply.many(1) == ()
    assert keyspace.get("a") is not None
    assert [kv.key for kv in keyspace.kvs("b")] == ["b"]
