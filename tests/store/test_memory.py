"""What MemoryStore adds for tests: time that stands still, and failures on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from psbarrier.errors import (
    ClosedError,
    InvalidArgumentError,
    LeaseNotFoundError,
    StoreError,
    StoreUnavailableError,
)
from psbarrier.store.base import Event, Put, Range, Txn
from psbarrier.store.manual_clock import ManualClock
from psbarrier.store.memory import MemoryStore, Verb
from store.helpers import Beats, InThread, Recorder, exists, put, soon


def test_the_repr_tells_the_state(memory: MemoryStore) -> None:
    """Revision, keys, leases, and what is wrong."""
    put(memory, "a", memory.grant(10, until=soon(memory)))
    assert repr(memory) == "<MemoryStore rev 2, 1 keys, 1 leases>"
    memory.cut()
    memory.stop()
    memory.hold()
    memory.close()
    assert repr(memory) == "<MemoryStore rev 2, 1 keys, 1 leases, cut, stopped, held, closed>"


def test_an_empty_store_has_revision_1(memory: MemoryStore) -> None:
    """As etcd has; the first write makes it 2."""
    assert memory.read(Range("a"), until=soon(memory)).revision == 1
    assert put(memory, "a") == 2


class TestTime:
    """Beats, leases and waits happen when the clock is moved, in the order of time."""

    def test_beats_come_at_their_times(self, memory: MemoryStore) -> None:
        """The first at once; one advance brings all that are due, each sent at its own moment."""
        start, beats = memory.clock.now(), Beats()
        lease = memory.grant(15, until=soon(memory))
        keeping = memory.keep(lease, interval=5, on_beat=beats)
        assert beats.sent == [start]
        memory.advance(12)
        assert beats.sent == [start, start + 5, start + 10]
        keeping.stop()
        memory.advance(60)
        assert len(beats.sent) == 3
        assert beats.ttls == [15] * 3

    def test_a_lease_ends_at_its_moment_not_before(self, memory: MemoryStore) -> None:
        """A TTL after its grant, or after the last beat."""
        lease = memory.grant(15, until=soon(memory))
        put(memory, "a", lease)
        memory.advance(14.5)
        keeping = memory.keep(lease, interval=100, on_beat=Beats())
        keeping.stop()
        memory.advance(14.5)
        assert exists(memory, "a")
        memory.advance(0.5)
        assert not exists(memory, "a")

    def test_a_beat_due_at_the_very_end_comes_in_time(self, memory: MemoryStore) -> None:
        """An interval as long as the TTL keeps the lease."""
        lease = memory.grant(5, until=soon(memory))
        put(memory, "a", lease)
        memory.keep(lease, interval=5, on_beat=Beats())
        memory.advance(50)
        assert exists(memory, "a")

    def test_one_advance_does_everything_in_the_order_of_time(self, memory: MemoryStore) -> None:
        """Whoever is called sees the clock stand at that moment."""
        start, story = memory.clock.now(), []

        class Tells(Recorder):
            def events(self, events: Sequence[Event], revision: int) -> None:
                story.append((memory.clock.now() - start, events[0].kv.key))

        memory.watch("", Tells(), until=soon(memory))
        for name, ttl in (("late", 9), ("early", 3)):
            lease = memory.grant(ttl, until=soon(memory))
            memory.txn(Txn(then=(Put(f"{name}", b"", lease),)), until=soon(memory))
        kept = memory.grant(60, until=soon(memory))
        memory.keep(kept, interval=4, on_beat=lambda sent, ttl: story.append((sent - start, "beat")))
        del story[:]
        memory.advance(10)
        assert story == [(3, "early"), (4, "beat"), (8, "beat"), (9, "late")]

    def test_a_callback_that_raises_stops_no_beat(self, memory: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
        """It is logged, and the next one comes."""
        calls = []

        def on_beat(sent: float, ttl: int) -> None:
            calls.append(sent)
            raise ValueError("a bug in the callback")

        memory.keep(memory.grant(15, until=soon(memory)), interval=5, on_beat=on_beat)
        memory.advance(5)
        assert len(calls) == 2
        assert "on_beat" in caplog.text

    def test_an_interval_must_be_positive(self, memory: MemoryStore) -> None:
        """Otherwise an advance would never end."""
        with pytest.raises(InvalidArgumentError, match="positive"):
            memory.keep(1, interval=0, on_beat=Beats())

    def test_expire_ends_a_lease_at_once(self, memory: MemoryStore) -> None:
        """By its id, or by whatever has a `lease`; once."""

        class Tenant:
            lease = memory.grant(60, until=soon(memory))

        seen = Recorder()
        memory.watch("", seen, until=soon(memory))
        put(memory, "a", Tenant.lease)
        put(memory, "b", Tenant.lease)
        memory.expire(Tenant())
        assert [event.deleted for event in seen.calls[-1]] == [True, True]
        with pytest.raises(LeaseNotFoundError):
            memory.expire(Tenant.lease)

    def test_clients_share_the_clock(self) -> None:
        """A clock that is handed in is the one that the store lives by."""
        clock = ManualClock()
        with MemoryStore(clock) as store, store.client() as other:
            store.advance(3)
            assert store.clock is other.clock is clock


class TestCut:
    """A cut network: nothing is answered or delivered, and the server goes on."""

    def test_a_transaction_fails_at_once_not_applied(self, memory: MemoryStore) -> None:
        """And the store is as it was."""
        memory.cut()
        with pytest.raises(StoreUnavailableError, match="cut") as caught:
            put(memory, "a")
        assert caught.value.applied is False
        assert set(caught.value.reasons) == {"memory"}
        memory.heal()
        assert not exists(memory, "a")

    @pytest.mark.parametrize("mend", ["heal", "start"])
    def test_the_other_verbs_wait_until_it_is_mended(self, memory: MemoryStore, mend: str) -> None:
        """Then they are answered, whatever time it is."""
        (memory.cut if mend == "heal" else memory.stop)()
        until = soon(memory)
        calls = [
            InThread(lambda: memory.read(Range("a"), until=until)),
            InThread(lambda: memory.grant(60, until=until)),
            InThread(lambda: memory.watch("", Recorder(), until=until)),
        ]
        memory.clock.await_waiters(3)
        getattr(memory, mend)()
        assert [call.join().error for call in calls] == [None] * 3

    def test_a_revoke_fails_at_once(self, memory: MemoryStore) -> None:
        """Whoever closes a member that was cut off does not wait for a clock that stands still."""
        lease = memory.grant(60, until=soon(memory))
        memory.cut()
        with pytest.raises(StoreUnavailableError, match="cut"):
            memory.revoke(lease, until=soon(memory))

    def test_the_other_verbs_fail_at_their_deadline(self, memory: MemoryStore) -> None:
        """Which is the clock's, to the second."""
        memory.cut()
        until = memory.clock.now() + 7
        call = InThread(lambda: memory.read(Range("a"), until=until))
        memory.clock.await_waiters()
        memory.advance(7)
        assert isinstance(call.join().error, StoreUnavailableError)

    def test_closing_ends_their_wait(self, memory: MemoryStore) -> None:
        """With ClosedError."""
        memory.cut()
        call = InThread(lambda: memory.read(Range("a"), until=soon(memory)))
        memory.clock.await_waiters()
        memory.close()
        assert isinstance(call.join().error, ClosedError)

    def test_leases_run_out_meanwhile(self, memory: MemoryStore) -> None:
        """Beats are lost; when it is healed, watches are told first, then a beat reports the loss, once."""
        lease, beats, seen = memory.grant(15, until=soon(memory)), Beats(), Recorder()
        put(memory, "a", lease)
        memory.watch("", seen, until=soon(memory))
        memory.keep(lease, interval=5, on_beat=beats)
        memory.cut()
        memory.advance(20)
        assert beats.ttls == [15]
        assert seen.calls == []
        memory.heal()
        assert seen.seen[0].deleted
        assert beats.ttls == [15, 0]
        memory.advance(20)
        assert beats.ttls == [15, 0]

    def test_a_short_cut_costs_nothing(self, memory: MemoryStore) -> None:
        """Healed in time, the beat that goes out at once saves the lease."""
        lease, beats = memory.grant(15, until=soon(memory)), Beats()
        put(memory, "a", lease)
        memory.keep(lease, interval=5, on_beat=beats)
        memory.cut()
        memory.advance(14)
        memory.heal()
        assert beats.sent[-1] == memory.clock.now()
        memory.advance(14)
        assert exists(memory, "a")

    def test_one_client_is_cut_off_and_the_other_is_not(self, memory: MemoryStore) -> None:
        """The one hears, after healing, in order, what the other did meanwhile."""
        seen = Recorder()
        memory.watch("", seen, until=soon(memory))
        memory.cut()
        with memory.client() as other:
            for name in "abc":
                put(other, name)
        assert seen.calls == []
        memory.heal()
        assert seen.keys == ["a", "b", "c"]

    def test_a_stopped_server_extends_its_leases_when_it_starts(self, memory: MemoryStore) -> None:
        """By a full TTL, however long it was down: an outage kills no member."""
        lease, beats = memory.grant(15, until=soon(memory)), Beats()
        put(memory, "a", lease)
        keeping = memory.keep(lease, interval=5, on_beat=beats)
        memory.stop()
        memory.advance(1000)
        assert beats.ttls == [15]
        keeping.stop()
        memory.start()
        memory.advance(14)
        assert exists(memory, "a")
        memory.advance(1)
        assert not exists(memory, "a")


class TestFailNext:
    """A failure on demand."""

    @pytest.mark.parametrize("applied", [False, True])
    def test_a_transaction_may_have_been_applied_or_not(self, memory: MemoryStore, applied: bool) -> None:
        """The caller cannot tell; the next one works."""
        memory.fail_next("txn", applied=applied)
        with pytest.raises(StoreUnavailableError) as caught:
            put(memory, "a")
        assert caught.value.applied is None
        assert exists(memory, "a") is applied
        put(memory, "a")

    def test_watches_see_what_was_applied(self, memory: MemoryStore) -> None:
        """Although its writer was told that nobody knows."""
        seen = Recorder()
        memory.watch("", seen, until=soon(memory))
        memory.fail_next("txn", applied=True)
        with pytest.raises(StoreUnavailableError):
            put(memory, "a")
        assert seen.keys == ["a"]

    @pytest.mark.parametrize("verb", ["read", "grant", "revoke", "watch"])
    def test_each_verb_fails_with_the_error_given(self, memory: MemoryStore, verb: Verb) -> None:
        """And once."""
        error = StoreError("out of order")
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: memory.read(Range("a"), until=soon(memory)),
            "grant": lambda: memory.grant(60, until=soon(memory)),
            "revoke": lambda: memory.revoke(1, until=soon(memory)),
            "watch": lambda: memory.watch("", Recorder(), until=soon(memory)),
        }
        memory.fail_next(verb, error, applied=True)
        with pytest.raises(StoreError) as caught:
            calls[verb]()
        assert caught.value is error
        calls[verb]()

    @pytest.mark.parametrize("applied", [False, True])
    def test_a_lost_beat_is_not_confirmed(self, memory: MemoryStore, applied: bool) -> None:
        """It has renewed the lease or not; the next one is sent as planned."""
        lease, beats = memory.grant(15, until=soon(memory)), Beats()
        put(memory, "a", lease)
        memory.advance(10)
        memory.fail_next("keep", applied=applied)
        memory.keep(lease, interval=10, on_beat=beats)
        assert beats.ttls == []
        memory.advance(10)
        assert exists(memory, "a") is applied
        assert beats.ttls == [15 if applied else 0]

    def test_an_unknown_verb_is_refused(self, memory: MemoryStore) -> None:
        """By name."""
        with pytest.raises(InvalidArgumentError, match="'write'"):
            memory.fail_next("write")  # type: ignore[arg-type]
