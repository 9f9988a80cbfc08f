"""Leases and keep-alives: what psbarrier.store.base promises, held to MemoryStore and to a real etcd alike."""

from __future__ import annotations

from psbarrier.store.base import Delete, Put, Range, Store, Txn, prefix_end
from store.helpers import Beats, Recorder, let_pass, soon


def put(store: Store, key: str, lease: int) -> int:
    """Write one key; the revision of that."""
    return store.txn(Txn(then=(Put(key, b"x", lease),)), until=soon(store)).revision


def names(store: Store, prefix: str) -> list[str]:
    """The keys below `prefix`, without it."""
    kvs = store.read(Range(prefix, prefix_end(prefix)), until=soon(store)).many(0)
    return [kv.key.removeprefix(prefix) for kv in kvs]


def test_a_key_says_which_lease_it_is_bound_to(store: Store, prefix: str) -> None:
    """And leases are positive and differ."""
    first, second = store.grant(60, until=soon(store)), store.grant(60, until=soon(store))
    assert 0 < first != second > 0
    put(store, prefix + "a", first)
    kv = store.read(Range(prefix + "a"), until=soon(store)).one(0)
    assert kv is not None
    assert kv.lease == first
    for lease in (first, second):
        store.revoke(lease, until=soon(store))


def test_revoking_deletes_the_keys_of_a_lease_in_one_revision(store: Store, prefix: str) -> None:
    """The watch is told in one call, in ascending order; keys without that lease stay."""
    lease = store.grant(60, until=soon(store))
    for name in ("c", "a", "b"):
        put(store, prefix + name, lease)
    put(store, prefix + "stays", 0)
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    store.revoke(lease, until=soon(store))
    seen.wait_for(lambda: bool(seen.calls))
    (call,) = seen.calls
    assert [event.kv.key.removeprefix(prefix) for event in call] == ["a", "b", "c"]
    assert all(event.deleted and event.kv.value == b"" for event in call)
    assert {event.kv.mod for event in call} == {seen.revisions[0]}
    assert names(store, prefix) == ["stays"]
    watch.stop()


def test_revoking_what_is_gone_is_fine(store: Store) -> None:
    """Twice, or a lease that never was."""
    lease = store.grant(60, until=soon(store))
    store.revoke(lease, until=soon(store))
    store.revoke(lease, until=soon(store))
    store.revoke(4_242_424_242, until=soon(store))


def test_a_put_under_another_lease_detaches_the_key(store: Store, prefix: str) -> None:
    """The old lease's end leaves it alone; a put without a lease frees it from all."""
    old, new = store.grant(60, until=soon(store)), store.grant(60, until=soon(store))
    put(store, prefix + "moved", old)
    put(store, prefix + "freed", old)
    put(store, prefix + "moved", new)
    put(store, prefix + "freed", 0)
    store.revoke(old, until=soon(store))
    assert names(store, prefix) == ["freed", "moved"]
    store.revoke(new, until=soon(store))
    assert names(store, prefix) == ["freed"]


def test_a_deleted_key_that_comes_back_is_not_bound(store: Store, prefix: str) -> None:
    """The lease holds the key, not its name."""
    lease = store.grant(60, until=soon(store))
    put(store, prefix + "a", lease)
    store.txn(Txn(then=(Delete(prefix + "a"),)), until=soon(store))
    put(store, prefix + "a", 0)
    store.revoke(lease, until=soon(store))
    assert names(store, prefix) == ["a"]


def test_a_lease_that_nobody_keeps_runs_out(store: Store, prefix: str) -> None:
    """Its keys go with it, and the watch is told."""
    lease = store.grant(2, until=soon(store))
    put(store, prefix + "a", lease)
    seen = Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    let_pass(store, 2.0)
    seen.wait_for_key(prefix + "a")
    assert seen.seen[0].deleted
    watch.stop()


def test_a_kept_lease_outlives_its_ttl(store: Store, prefix: str) -> None:
    """As long as it is kept; then it has what the last beat bought, and ends."""
    lease = store.grant(3, until=soon(store))
    put(store, prefix + "a", lease)
    beats, seen = Beats(), Recorder()
    watch = store.watch(prefix, seen, until=soon(store))
    keeping = store.keep(lease, interval=0.5, on_beat=beats)
    let_pass(store, 3.5)
    beats.wait_for(lambda: len(beats.sent) > 1 and beats.sent[-1] >= beats.sent[0] + 3.25)
    assert names(store, prefix) == ["a"]
    keeping.stop()
    let_pass(store, 3.0)
    seen.wait_for_key(prefix + "a")
    watch.stop()


def test_the_first_beat_may_come_later(store: Store) -> None:
    """Not before the time that was asked for; the next ones follow at the interval, and other leases need not wait."""
    lease, other = store.grant(60, until=soon(store)), store.grant(60, until=soon(store))
    beats, others = Beats(), Beats()
    first = store.clock.now() + 0.5
    kept = store.keep(lease, interval=0.25, on_beat=beats, first=first), store.keep(other, interval=10, on_beat=others)
    others.wait_for(lambda: bool(others.sent))
    let_pass(store, 1.0)
    beats.wait_for(lambda: len(beats.sent) > 1)
    assert others.sent[0] < first <= beats.sent[0]
    assert beats.sent[1] >= beats.sent[0] + 0.25
    for keeping in kept:
        keeping.stop()
    for each in (lease, other):
        store.revoke(each, until=soon(store))


def test_stopping_to_keep_a_lease_does_not_revoke_it(store: Store, prefix: str) -> None:
    """The lease has its time; stopping again does nothing."""
    lease = store.grant(60, until=soon(store))
    put(store, prefix + "a", lease)
    beats = Beats()
    keeping = store.keep(lease, interval=0.5, on_beat=beats)
    beats.wait_for(lambda: bool(beats.ttls))
    keeping.stop()
    keeping.stop()
    assert names(store, prefix) == ["a"]
    store.revoke(lease, until=soon(store))


def test_a_beat_reports_when_it_was_sent_and_what_it_bought(store: Store) -> None:
    """The first comes at once; send times are the clock's and rise."""
    lease = store.grant(7, until=soon(store))
    before = store.clock.now()
    beats = Beats()
    keeping = store.keep(lease, interval=0.25, on_beat=beats)
    beats.wait_for(lambda: len(beats.ttls) >= 1)
    let_pass(store, 0.5)
    beats.wait_for(lambda: len(beats.ttls) >= 3)
    keeping.stop()
    assert set(beats.ttls) == {7}
    assert beats.sent == sorted(beats.sent)
    assert before <= beats.sent[0] <= beats.sent[-1] <= store.clock.now()
    store.revoke(lease, until=soon(store))


def test_etcd_grants_two_seconds_at_least(store: Store) -> None:
    """Whoever asks for one second is told so by the first beat."""
    lease = store.grant(1, until=soon(store))
    beats = Beats()
    keeping = store.keep(lease, interval=0.5, on_beat=beats)
    beats.wait_for(lambda: bool(beats.ttls))
    keeping.stop()
    assert beats.ttls[0] == 2


def test_a_dead_lease_is_reported_once_and_no_longer_kept(store: Store) -> None:
    """A ttl of 0 or less, one time; other leases are kept meanwhile."""
    dead, alive = store.grant(60, until=soon(store)), store.grant(60, until=soon(store))
    store.revoke(dead, until=soon(store))
    of_dead, of_alive = Beats(), Beats()
    keepings = [
        store.keep(dead, interval=0.125, on_beat=of_dead),
        store.keep(alive, interval=0.125, on_beat=of_alive),
    ]
    of_dead.wait_for(lambda: bool(of_dead.ttls))
    beaten = len(of_alive.ttls)
    let_pass(store, 1.0)
    of_alive.wait_for(lambda: len(of_alive.ttls) >= beaten + 5)
    for keeping in keepings:
        keeping.stop()
    (ttl,) = of_dead.ttls
    assert ttl <= 0
    assert set(of_alive.ttls) == {60}
    store.revoke(alive, until=soon(store))


def test_a_lease_that_ends_while_it_is_kept_is_reported(store: Store) -> None:
    """The next beat says so."""
    lease = store.grant(60, until=soon(store))
    beats = Beats()
    keeping = store.keep(lease, interval=0.125, on_beat=beats)
    beats.wait_for(lambda: bool(beats.ttls))
    store.revoke(lease, until=soon(store))
    let_pass(store, 0.125)
    beats.wait_for(lambda: beats.ttls[-1] <= 0)
    keeping.stop()
