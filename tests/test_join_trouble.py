"""Joining when replies are lost, etcd is away, or a lease dies: one registration or none."""

from __future__ import annotations

from typing import Any

import pytest
from jobs import JOB, TWO, Counting, Place, call, raised, returned

from psbarrier.errors import (
    JobMismatchError,
    SlotTakenError,
    StoreUnavailableError,
)
from psbarrier.state import MemberState
from psbarrier.store.base import Txn

# -- what goes wrong on the way


@pytest.mark.parametrize("index", [0, None])
@pytest.mark.parametrize("run", ["run", None])
@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("step", range(4))
def test_a_lost_reply_leaves_neither_two_registrations_nor_a_lease(
    memory: Place, step: int, applied: bool, run: str | None, index: int | None
) -> None:
    """Whichever transaction of joining goes unanswered, applied or not, the result is one registration, two leases."""

    class Failing(Counting):
        """Loses the reply to one of the transactions."""

        def txn(self, txn: Txn, *, until: float) -> Any:
            self.requests += 1
            if self.requests == step + 1:
                memory_client.fail_next("txn", applied=applied)
            return memory_client.txn(txn, until=until)

    memory_client = memory.memory_client()
    member = memory.join("worker", index, run=run, store=Failing(memory_client))
    registered = {kv.key: kv for kv in memory.kvs() if "/members/" in kv.key}
    assert len(registered) == 1
    config = next(kv for kv in memory.kvs() if kv.key.endswith("/config"))
    assert memory.leases() == {member.lease, config.lease}


@pytest.mark.parametrize("verb", ["grant", "watch", "txn"])
def test_what_fails_before_anything_is_sent_is_tried_again(memory: Place, verb: Any) -> None:
    """One failure of the network is not the end of joining."""
    store = memory.memory_client()
    store.fail_next(verb)
    assert memory.join("worker", 0, store=store).state is MemberState.CONNECTED


def test_a_failed_join_leaves_nothing_behind(place: Place) -> None:
    """No key and no lease tells of a process that was refused."""
    place.start(TWO)
    before, known = place.kvs(), place.leases()
    with pytest.raises(JobMismatchError):
        place.join("worker", 1, replicas=JOB)
    late = call(place.join, "worker", 0, timeout=1.0)
    place.until(late.done)
    assert isinstance(raised(late), SlotTakenError)
    assert (place.kvs(), place.leases() - known) == (before, set())


def test_joining_ends_at_its_deadline_when_etcd_is_out_of_reach(memory: Place) -> None:
    """The error says what was tried, and the process is not kept longer."""
    store = memory.memory_client()
    store.cut()
    began = store.clock.now()
    late = call(memory.join, "worker", 0, store=store, timeout=10.0)
    memory.until(late.done, step=0.1)
    assert isinstance(raised(late), StoreUnavailableError)
    assert memory.kvs() == ()
    assert store.clock.now() - began < 30  # the clock moves on while the thread ends


def test_a_process_that_is_cut_off_while_it_waits_for_a_slot_leaves_no_lease(memory: Place) -> None:
    """Its lease is revoked if that is possible, and otherwise runs out."""
    memory.join("worker", 0)
    known = memory.leases()
    store = memory.memory_client()
    late = call(memory.join, "worker", 0, store=store, timeout=10.0)
    memory.until(lambda: len(memory.leases()) == len(known) + 1, step=0)
    store.cut()
    memory.until(late.done)
    assert isinstance(raised(late), (SlotTakenError, StoreUnavailableError))
    memory.until(lambda: memory.leases() == known)


def test_a_lease_that_dies_during_the_wait_for_a_slot_is_replaced(memory: Place) -> None:
    """An outage may cost a waiting process its lease; it still gets the slot."""
    holder = memory.join("worker", 0)
    known = memory.leases()
    late = call(memory.join, "worker", 0)
    memory.until(lambda: len(memory.leases()) == len(known) + 1, step=0)
    for lease in memory.leases() - known:
        memory.memory.expire(lease)
    memory.lose(holder)
    member = returned(late)
    assert member.lease in memory.leases()
    assert member.state is MemberState.CONNECTED
