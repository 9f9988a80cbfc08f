"""Outages: what a member makes of an etcd that is away, empty, or refuses."""

from __future__ import annotations

import shutil
import time

import pytest
from jobs import PATIENCE, TWO, Place, call, cuttable, raised, returned

from psbarrier import MemberState
from psbarrier.embedded import EtcdServer
from psbarrier.errors import (
    RunGoneError,
    SlotLostError,
    SlotTakenError,
    StoreRefusedError,
    StoreUnavailableError,
)

CONNECTED, SUSPENDED, LOST, _ = MemberState


# -- outages of a real etcd


def test_an_outage_longer_than_the_ttl_loses_nobody(own_etcd: EtcdServer) -> None:
    """etcd is killed and comes back with its data: no task is lost, and a wait that was under way goes on."""
    with Place(own_etcd) as place:
        first, second = place.start(TWO, ttl=2)
        tokens = {first.token, second.token}
        waiting = call(first.barrier("b").wait, 60)
        place.until(lambda: second.barrier("b").n_waiting == 1)
        own_etcd.kill()
        place.until(lambda: {first.state, second.state} == {SUSPENDED})
        own_etcd.restart()
        place.until(lambda: {first.state, second.state} == {CONNECTED})
        assert second.barrier("b").wait(PATIENCE) == 1
        assert returned(waiting) == 0
        assert tokens == {first.token, second.token}
        assert first.cluster(PATIENCE).epoch == second.cluster(PATIENCE).epoch == 1


def test_an_etcd_that_comes_back_empty_is_the_end_of_the_run(own_etcd: EtcdServer) -> None:
    """Without its data no member can be who it was: all are lost, and nobody registers again by itself."""
    with Place(own_etcd) as place:
        first, second = place.start(TWO, ttl=2)
        waiting = call(first.wait_job)
        own_etcd.kill()
        shutil.rmtree(own_etcd.folder / "data")
        own_etcd.start()
        place.until(lambda: {first.state, second.state} == {LOST})
        assert isinstance(raised(waiting), RunGoneError)
        with pytest.raises(SlotLostError):
            second.barrier("b")
        assert place.kvs() == ()


def test_a_run_that_vanishes_is_noticed_by_its_members(place: Place) -> None:
    """Somebody deletes the whole job by hand: RunGoneError, for there is nothing left to come back to."""
    first, second = place.start(TWO)
    config = next(kv for kv in place.kvs() if kv.key.endswith("/config"))
    place.store.revoke(config.lease, until=place.soon())
    with pytest.raises(RunGoneError, match="run 'run'"):
        first.share("k", 1)
    place.until(lambda: second.state is LOST)


def test_a_watch_that_etcd_refuses_ends_every_wait(memory: Place) -> None:
    """Without its watch a member learns nothing any more; going on to wait would be to hang."""
    _, member = cuttable(memory)
    waiting = call(member.get, "never", None)
    sink = next(iter(member._session._watches._views.values()))._sink  # type: ignore[attr-defined]
    sink.failed(StoreRefusedError("etcd refuses the watch: permission denied"))
    assert isinstance(raised(waiting), StoreRefusedError)
    assert member.state is LOST


@pytest.mark.parametrize("index", [0, 1])
def test_a_frozen_etcd_delays_no_join_deadline_by_more_than_a_second(own_etcd: EtcdServer, index: int) -> None:
    """Neither for who waits for a slot, nor for who has only begun; clearing up is included."""
    with Place(own_etcd) as place:
        place.join("worker", 0)
        known = place.leases()
        store = place.client()
        if index == 1:
            own_etcd.pause()
        began = time.monotonic()
        late = call(place.join, "worker", index, store=store, timeout=2.0)
        if index == 0:
            place.until(lambda: place.leases() - known)
            own_etcd.pause()
        error = raised(late)
        took = time.monotonic() - began
        own_etcd.resume()
        # Who waited for a slot may have been told who holds it before etcd froze, and then says that too.
        told = index == 0 and isinstance(error, SlotTakenError)
        assert isinstance(error.__cause__ if told else error, StoreUnavailableError)
        assert not told or "when etcd last answered" in str(error)
        assert took <= 3.0 + 0.5  # half a second for a machine that does other things too
