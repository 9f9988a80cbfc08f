"""The keyspace in memory and a real etcd are given the same random steps, and must answer, and tell, the same."""

from __future__ import annotations

import contextlib
from typing import Any

from attrs import evolve, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psbarrier.embedded import EtcdServer
from psbarrier.errors import LeaseNotFoundError, StoreRefusedError
from psbarrier.store.base import Compare, Delete, Event, Put, Range, Store, Txn, TxnReply, prefix_end
from psbarrier.store.memory_kv import Keyspace
from store.helpers import Recorder, etcd_store, soon

KEYS = ("k/a", "k/b", "k/b/1", "k/b/2", "k/c")
ENDS = (None, None, "k/b", "k/b0", "k0")
UNKNOWN_LEASE = 4_242_424_242


@frozen
class Revoke:
    """A step that ends one of the two leases."""

    which: int


keys = st.sampled_from(KEYS)
ends = st.sampled_from(ENDS)
values = st.sampled_from((b"", b"1", b"2"))
# Leases 1 and 2 stand for two live ones, 3 for one that does not exist; revisions are relative to the first step's.
leases = st.sampled_from((0, 0, 0, 1, 2, 3))
ops = st.sampled_from(("==", "!=", "<", ">"))
compares = st.one_of(
    st.builds(Compare, keys, st.sampled_from(("create", "mod")), ops, st.integers(-1, 5), ends),
    st.builds(Compare, keys, st.just("version"), ops, st.integers(0, 3), ends),
    st.builds(Compare, keys, st.just("lease"), ops, st.integers(0, 2), ends),
    st.builds(Compare, keys, st.just("value"), ops, values, ends),
)
ranges = st.builds(Range, keys, ends, st.integers(0, 2), st.booleans(), st.booleans())
simple = st.one_of(st.builds(Put, keys, values, leases), ranges, st.builds(Delete, keys, ends))


def txns(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Txn]:
    """Transactions of few compares and of `parts`."""
    few = st.lists(compares, max_size=2).map(tuple)
    branch = st.lists(parts, max_size=3).map(tuple)
    return st.builds(Txn, few, branch, branch)


# Most of what can differ needs keys that exist: a story starts with some.
beginnings = st.lists(keys, unique=True).flatmap(
    lambda chosen: st.tuples(*(st.builds(Put, st.just(key), values, st.sampled_from((0, 1, 2))) for key in chosen))
)
steps = st.one_of(
    txns(simple),
    txns(st.one_of(simple, txns(simple))),
    txns(st.one_of(simple, txns(st.one_of(simple, txns(simple))))),
    st.builds(Revoke, st.integers(1, 2)),
)


class Pair:
    """A keyspace that starts where etcd stands, and what is done to both."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keyspace = Keyspace()
        self.told: list[Event] = []
        cleared = store.txn(Txn(then=(Delete("k/", prefix_end("k/")),)), until=soon(store))
        self.base = self.keyspace.revision = cleared.revision
        granted = [store.grant(60, until=soon(store)) for _ in range(2)]
        self.leases = {0: 0, 1: granted[0], 2: granted[1], 3: UNKNOWN_LEASE}
        for lease in granted:
            self.keyspace.grant(lease, 60)

    def placed(self, txn: Txn) -> Txn:
        """`txn` with real leases and revisions."""
        return Txn(
            tuple(self._placed_compare(compare) for compare in txn.compares),
            tuple(self._placed_op(op) for op in txn.then),
            tuple(self._placed_op(op) for op in txn.otherwise),
        )

    def _placed_compare(self, compare: Compare) -> Compare:
        if compare.target in ("create", "mod") and compare.value != 0:
            assert isinstance(compare.value, int)
            return evolve(compare, value=compare.value + self.base)
        if compare.target == "lease":
            assert isinstance(compare.value, int)
            return evolve(compare, value=self.leases[compare.value])
        return compare

    def _placed_op(self, op: Any) -> Any:
        if isinstance(op, Txn):
            return self.placed(op)
        return evolve(op, lease=self.leases[op.lease]) if isinstance(op, Put) else op

    def in_memory(self, step: Txn | Revoke) -> TxnReply | type[Exception] | None:
        """What the keyspace answers."""
        if isinstance(step, Revoke):
            self.told += self.keyspace.revoke(self.leases[step.which])
            return None
        try:
            reply, events = self.keyspace.apply(step)
        except (StoreRefusedError, LeaseNotFoundError) as error:
            return type(error)
        self.told += events
        return reply

    def in_etcd(self, step: Txn | Revoke) -> TxnReply | type[Exception] | None:
        """What etcd answers."""
        if isinstance(step, Revoke):
            self.store.revoke(self.leases[step.which], until=soon(self.store))
            return None
        try:
            return self.store.txn(step, until=soon(self.store))
        except (StoreRefusedError, LeaseNotFoundError) as error:
            return type(error)

    def close(self) -> None:
        """Leave no lease behind."""
        for which in (1, 2):
            self.store.revoke(self.leases[which], until=soon(self.store))


def run(store: Store, story: list[Txn | Revoke]) -> None:
    """Take both through `story`, comparing each answer, then all that is left, then all that was told."""
    pair, seen = Pair(store), Recorder()
    watch = store.watch("k/", seen, until=soon(store))
    try:
        for step in [*story, Txn(then=(Range("k/", "k0"), Put("k/end", b"")))]:
            placed = pair.placed(step) if isinstance(step, Txn) else step
            assert pair.in_memory(placed) == pair.in_etcd(placed), placed
        seen.wait_for_key("k/end")
        assert seen.seen == pair.told
    finally:
        watch.stop()
        pair.close()


def test_random_transactions(own_etcd: EtcdServer) -> None:
    """Equal replies, revisions, refusals and events, for nested transactions, ranges, deletes and leases."""
    # An etcd of its own: nobody else moves the revision, so both sides can be compared as they are.
    with contextlib.closing(etcd_store(own_etcd.endpoint)) as store:

        @settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
        @given(beginnings, st.lists(steps, min_size=1, max_size=6))
        def same(beginning: tuple[Put, ...], story: list[Txn | Revoke]) -> None:
            run(store, [Txn(then=beginning), *story])

        same()
