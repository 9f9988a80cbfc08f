"""Leases that are kept over the network's and etcd's failures."""

from __future__ import annotations

import logging
import threading

import pytest
from helpers import eventually

from psbarrier.embedded import EtcdServer
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.manual_clock import ManualClock
from psbarrier.store.streams import OpenStream
from store.helpers import Beats, soon
from store.relay import Relay


def test_the_first_beat_goes_out_at_once(etcd: EtcdServer) -> None:
    """However long the interval is."""
    with EtcdStore(etcd.endpoint) as store:
        lease = store.grant(30, until=soon(store))
        beats = Beats()
        before = store.clock.now()
        store.keep(lease, interval=1000.0, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        assert before <= beats.sent[0] <= store.clock.now()
        assert beats.ttls == [30]


def test_beats_go_on_after_etcd_was_killed_and_came_back(own_etcd: EtcdServer) -> None:
    """The lease lives on in etcd's data, and nobody had to do anything."""
    beats = Beats()
    with EtcdStore(own_etcd.endpoint) as store:
        lease = store.grant(20, until=soon(store))
        store.keep(lease, interval=0.1, on_beat=beats)
        beats.wait_for(lambda: len(beats.sent) >= 2)
        own_etcd.kill()
        silence = store.clock.now()
        own_etcd.start()
        beats.wait_for(lambda: beats.sent[-1] > silence + 0.3)
    assert set(beats.ttls) == {20}
    assert beats.sent == sorted(beats.sent)


def test_an_outage_brings_no_first_beat_forward(own_etcd: EtcdServer) -> None:
    """Those that have begun beat again as soon as etcd is back; who starts that late does not yet."""
    beats, late = Beats(), Beats()
    with EtcdStore(own_etcd.endpoint) as store:
        store.keep(store.grant(60, until=soon(store)), interval=30, on_beat=late, first=store.clock.now() + 1000)
        store.keep(store.grant(60, until=soon(store)), interval=30, on_beat=beats)
        beats.wait_for(lambda: len(beats.sent) >= 1)
        own_etcd.kill()
        own_etcd.start()
        beats.wait_for(lambda: len(beats.sent) >= 2)
        store.keep(store.grant(60, until=soon(store)), interval=0.01, on_beat=beats)
        beats.wait_for(lambda: len(beats.sent) >= 4)
    assert not late.sent


def test_a_lease_that_etcd_lost_is_reported_as_dead_after_the_reconnect(own_etcd: EtcdServer) -> None:
    """One beat with a TTL of 0, then silence: the next lease's beats prove that the stream goes on."""
    beats, others = Beats(), Beats()
    with EtcdStore(own_etcd.endpoint) as store, EtcdStore(own_etcd.endpoint) as other:
        lease = store.grant(20, until=soon(store))
        store.keep(lease, interval=0.1, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        other.revoke(lease, until=soon(other))
        beats.wait_for(lambda: beats.ttls[-1] <= 0)
        store.keep(store.grant(20, until=soon(store)), interval=0.1, on_beat=others)
        others.wait_for(lambda: len(others.sent) >= 3)
    assert [ttl for ttl in beats.ttls if ttl <= 0] == beats.ttls[-1:]


def test_a_death_is_believed_whatever_else_is_under_way(etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another beat is sent while the first one's bad news is being made sure of."""
    beats = Beats()
    with EtcdStore(etcd.endpoint) as store, EtcdStore(etcd.endpoint) as other:
        keep_alives = store._keep_alives
        read = keep_alives._read_anything

        def read_late() -> None:
            assert eventually(lambda: keep_alives._unanswered)
            read()

        monkeypatch.setattr(keep_alives, "_read_anything", read_late)
        lease = store.grant(20, until=soon(store))
        store.keep(lease, interval=0.5, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        other.revoke(lease, until=soon(other))
        beats.wait_for(lambda: beats.ttls[-1] <= 0)


def test_a_writer_that_is_starved_costs_etcd_no_time(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has a beat to send, and comes to sending it only after the time in which etcd should have answered."""
    clock, beats = ManualClock(), Beats()
    with EtcdStore(etcd.endpoint) as other, EtcdStore(etcd.endpoint, clock=clock) as store:
        start = store._keep_alives._start_guard

        def starve(opened: OpenStream) -> None:
            clock.advance(100)
            start(opened)

        monkeypatch.setattr(store._keep_alives, "_start_guard", starve)
        lease = other.grant(1000, until=soon(other))
        with caplog.at_level(logging.INFO, "psbarrier"):
            store.keep(lease, interval=300.0, on_beat=beats)
            beats.wait_for(lambda: bool(beats.sent))
        assert not caplog.records


def test_a_stalled_stream_is_left_for_the_next_endpoint(etcd: EtcdServer) -> None:
    """No answer within the interval: another endpoint is asked, long before the lease is over."""
    beats = Beats()
    with Relay(etcd.endpoint) as relay, EtcdStore([relay.endpoint, etcd.endpoint]) as store:
        lease = store.grant(60, until=soon(store))
        store.keep(lease, interval=0.3, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        relay.mute()
        muted = store.clock.now()
        beats.wait_for(lambda: beats.sent[-1] > muted + 0.3)
        assert repr(store).endswith(f"using {etcd.endpoint}>")
        relay.unmute()


def test_a_lease_that_has_time_does_not_hold_up_one_that_has_none(
    etcd: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no answer comes, the most urgent lease decides how long one is waited for, whichever beat first."""
    caplog.set_level(logging.INFO, logger="psbarrier")
    beats = Beats()
    with Relay(etcd.endpoint) as relay, EtcdStore([relay.endpoint, etcd.endpoint], timeout=2000.0) as store:
        urgent, other = (store.grant(60, until=soon(store)) for _ in range(2))
        store.keep(urgent, interval=0.3, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        relay.mute()
        muted = store.clock.now()
        store.keep(other, interval=1000.0, on_beat=Beats())
        beats.wait_for(lambda: beats.sent[-1] > muted + 0.3)
        relay.unmute()
    assert "no answer on the keep-alive" in caplog.text  # gRPC's ping would have noticed it some seconds later


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC waits for ever for a connection."""
    monkeypatch.setattr("psbarrier.store.etcd._LONGEST_CONNECT", 1000.0)


def test_an_endpoint_that_accepts_connections_and_serves_none_is_left(etcd: EtcdServer, patient: None) -> None:
    """As an etcd that has just been started is: the next one is asked after an interval, not when gRPC gives up."""
    beats = Beats()
    with (
        EtcdStore(etcd.endpoint) as other,
        Relay(etcd.endpoint) as relay,
        EtcdStore([relay.endpoint, etcd.endpoint], timeout=2000.0) as store,
    ):
        relay.mute()
        store.keep(other.grant(60, until=soon(other)), interval=0.3, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        assert repr(store).endswith(f"using {etcd.endpoint}>")
        relay.unmute()


def test_a_connection_that_takes_longer_than_an_interval_is_waited_for_in_the_end(
    etcd: EtcdServer, patient: None
) -> None:
    """Each round of attempts gets twice as long as the one before, so a slow handshake is no reason never to beat."""
    beats = Beats()
    with (
        EtcdStore(etcd.endpoint) as other,
        Relay(etcd.endpoint, hesitation=1.0) as relay,
        EtcdStore(relay.endpoint, timeout=2000.0) as store,
    ):
        store.keep(other.grant(60, until=soon(other)), interval=0.2, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        assert relay.connections > 1
        # The guard of an attempt ends with it, which may be a moment after the first beat.
        assert eventually(lambda: not any(thread.name.endswith("keep-alive-guard") for thread in threading.enumerate()))


def test_a_frozen_etcd_is_survived(own_etcd: EtcdServer) -> None:
    """With a single endpoint the stream is opened again until it works again."""
    beats = Beats()
    with EtcdStore(own_etcd.endpoint, timeout=1.0) as store:
        lease = store.grant(60, until=soon(store))
        store.keep(lease, interval=0.2, on_beat=beats)
        beats.wait_for(lambda: bool(beats.sent))
        own_etcd.pause()
        thaw = threading.Timer(2.0, own_etcd.resume)
        thaw.start()
        frozen = store.clock.now()
        beats.wait_for(lambda: beats.sent[-1] > frozen + 2.0)
        thaw.join()


def test_a_beat_is_dated_before_it_was_sent_even_over_a_slow_network(etcd: EtcdServer) -> None:
    """What counts for the lease clock is the request, not its late answer."""
    beats = Beats()
    with Relay(etcd.endpoint) as relay, EtcdStore(relay.endpoint, timeout=20.0) as store:
        lease = store.grant(60, until=soon(store))
        relay.mute()
        asked = store.clock.now()
        store.keep(lease, interval=30.0, on_beat=beats)
        slow = threading.Timer(0.5, relay.unmute)
        slow.start()
        beats.wait_for(lambda: bool(beats.sent))
        slow.join()
        assert beats.sent[0] < store.clock.now() - 0.4
        assert beats.sent[0] >= asked


def test_many_leases_share_one_stream(etcd: EtcdServer) -> None:
    """A hundred leases need two threads, and each gets its own answers."""
    with EtcdStore(etcd.endpoint) as store:
        kept = [(store.grant(10 + number, until=soon(store)), Beats()) for number in range(100)]
        for lease, beats in kept:
            store.keep(lease, interval=0.5, on_beat=beats)
        for number, (_, beats) in enumerate(kept):
            beats.wait_for(lambda beats=beats: len(beats.sent) >= 2)  # type: ignore[misc]
            assert set(beats.ttls) == {10 + number}
        names = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("psbarrier-keep"))
        assert names == ["psbarrier-keep-alive", "psbarrier-keep-alive-writer"]


def test_one_lease_may_be_kept_twice(etcd: EtcdServer) -> None:
    """Two leaders in one process, one after the other, keep the same run lease for a moment."""
    first, second = Beats(), Beats()
    with EtcdStore(etcd.endpoint) as store:
        lease = store.grant(30, until=soon(store))
        keeping = store.keep(lease, interval=0.1, on_beat=first)
        store.keep(lease, interval=0.1, on_beat=second)
        first.wait_for(lambda: len(first.sent) >= 2)
        keeping.stop()
        count = len(second.sent)
        second.wait_for(lambda: len(second.sent) >= count + 2)


def test_a_callback_that_raises_stops_nothing(etcd: EtcdServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the lease is kept all the same."""
    beats = Beats()

    def broken(sent: float, ttl: int) -> None:
        beats(sent, ttl)
        raise RuntimeError("the receiver is broken")

    with EtcdStore(etcd.endpoint) as store:
        store.keep(store.grant(30, until=soon(store)), interval=0.1, on_beat=broken)
        beats.wait_for(lambda: len(beats.sent) >= 3)
    assert "the receiver is broken" in caplog.text
