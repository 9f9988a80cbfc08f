"""A member's hold on its task: what it knows of it, what it may do meanwhile, and how it lets go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers import eventually
from jobs import JOB, PATIENCE, Place, call, cuttable, own_threads, raised, returned

import psbarrier
from psbarrier import Member, MemberState
from psbarrier.embedded import EtcdServer
from psbarrier.errors import (
    ClosedError,
    SlotLostError,
    StoreUnavailableError,
)

CONNECTED, SUSPENDED, LOST, CLOSED = MemberState


class Told:
    """Collects what the callbacks of a member hear, and on which threads."""

    def __init__(self, member: Member) -> None:
        self.states: list[MemberState] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()
        member.on_state(self)

    def __call__(self, state: MemberState) -> None:
        with self._changed:
            self.states.append(state)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def hears(self, *states: MemberState) -> bool:
        """Whether it hears exactly these, in this order, in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.states == list(states), PATIENCE)


# -- connected, suspended, lost


def test_a_member_is_suspended_by_time_alone_and_connected_by_an_answer(memory: Place) -> None:
    """No answer for a TTL: it can no longer be sure. One answer: it is again, for the lease outlived the outage."""
    store, member = cuttable(memory, ttl=15)
    told = Told(member)
    memory.memory.stop()
    assert member.state is CONNECTED
    memory.memory.advance(15.0)
    assert member.state is SUSPENDED
    assert told.hears(SUSPENDED)
    memory.memory.start()
    memory.until(lambda: member.state is CONNECTED)
    assert told.hears(SUSPENDED, CONNECTED)
    assert store.clock.now() < 1_100


def test_who_was_cut_off_longer_than_a_ttl_is_lost_when_etcd_says_so(memory: Place) -> None:
    """Cut off alone, its lease ran out; it learns that with the first answer, and never before."""
    store, member = cuttable(memory, ttl=15)
    told = Told(member)
    store.cut()
    memory.memory.advance(60.0)
    assert member.state is SUSPENDED
    assert told.hears(SUSPENDED)
    store.heal()
    memory.until(lambda: member.state is LOST)
    assert told.hears(SUSPENDED, LOST)
    with pytest.raises(SlotLostError, match="worker/0"):
        member.cluster(1.0)


def test_a_revoked_lease_is_a_lost_task(place: Place) -> None:
    """Every wait ends with SlotLostError, which names the task and the reason."""
    place.join("worker", 1)  # leads, so that no vacant leadership gives the loss away
    member = place.join("worker", 0, ttl=3)
    waiting = call(member.get, "never", None)
    told = Told(member)
    place.lose(member)
    place.until(waiting.done)
    error = raised(waiting)
    assert isinstance(error, SlotLostError)
    assert isinstance(error, ConnectionError)
    assert (error.task, type(error)) == ("worker/0", SlotLostError)
    assert error.reason
    assert told.hears(LOST)


def test_a_lost_member_never_comes_back_by_itself(place: Place) -> None:
    """Its slot stays free for another process."""
    member = place.join("worker", 0, ttl=3)
    place.lose(member)
    place.until(lambda: member.state is LOST)
    assert not any("/members/" in kv.key for kv in place.kvs())
    for act in (member.guard, member.finish, lambda: member.share("k", 1), lambda: member.barrier("b")):
        with pytest.raises(SlotLostError):
            act()
    assert place.join("worker", 0).token > member.token


def test_callbacks_hear_every_state_in_order_on_one_thread(memory: Place) -> None:
    """A callback that fails keeps no other from hearing, and the last thing heard is CLOSED."""
    store, member = cuttable(memory)

    def fails(state: MemberState) -> None:
        raise ValueError(state)

    member.on_state(fails)
    told, more = Told(member), Told(member)
    store.stop()
    memory.memory.advance(20.0)
    assert told.hears(SUSPENDED)
    store.start()
    assert told.hears(SUSPENDED, CONNECTED)
    member.close()
    assert told.hears(SUSPENDED, CONNECTED, CLOSED)
    assert more.hears(SUSPENDED, CONNECTED, CLOSED)
    assert told.threads == more.threads == {"psbarrier-callbacks"}


def test_a_suspended_member_gives_no_guard(memory: Place) -> None:
    """What needs certainty refuses; what can wait goes on."""
    store, member = cuttable(memory)
    store.stop()
    memory.memory.advance(20.0)
    with pytest.raises(StoreUnavailableError, match="suspended"):
        member.guard()
    store.start()
    memory.until(lambda: member.state is CONNECTED)
    assert member.guard()


@pytest.mark.parametrize("looks", ["state", "guard", "wait"])
def test_a_strict_member_is_lost_at_the_deadline_itself(memory: Place, looks: str) -> None:
    """strict=True: no grace for an outage, and no way back."""
    store, member = cuttable(memory, strict=True)
    waiting = call(member.get, "never", None) if looks == "wait" else None
    store.stop()
    memory.memory.advance(15.0)
    if waiting is not None:
        assert isinstance(raised(waiting), SlotLostError)
    elif looks == "guard":
        with pytest.raises(SlotLostError, match="strict"):
            member.guard()
    assert member.state is LOST
    store.start()
    memory.memory.advance(15.0)
    assert member.state is LOST


def test_a_strict_process_may_wait_for_its_slot_through_an_outage(memory: Place) -> None:
    """It has no task to lose yet."""
    holder = memory.join("worker", 0)
    waiting = call(memory.join, "worker", 0, strict=True, ttl=6, timeout=300.0)
    memory.until(lambda: len(memory.memory._server.keyspace.leases) == 3, step=0)
    memory.memory.stop()
    memory.memory.advance(30.0)
    memory.memory.start()
    memory.lose(holder)
    memory.until(waiting.done)
    assert returned(waiting).state is CONNECTED


def test_a_strict_member_takes_the_lead_long_after_its_first_ttl(memory: Place) -> None:
    """A keep-alive moves the strict deadline, and wakes no duty out of turn."""
    leader, second, third = memory.start({"worker": 3}, strict=True)
    for _ in range(10):
        memory.memory.advance(5.0)
        for member in (leader, second, third):
            memory.store.clock.await_waiters(1, condition=member._session._runner._condition)  # type: ignore[attr-defined]
    assert {second.state, third.state} == {CONNECTED}
    memory.lose(leader)
    memory.until(lambda: second._view.leader is not None and second._view.leader.incarnation != leader.incarnation)


# -- in the background


def _leads(member: Member) -> bool:
    leader = member._view.leader
    return leader is not None and leader.incarnation == member.incarnation


def test_who_only_waits_to_lead_needs_no_thread_for_that(place: Place) -> None:
    """It begins one when there is nobody who leads any more."""
    leader, other = place.start()
    assert leader._session._runner._thread is not None
    assert other._session._runner._thread is None
    place.lose(leader)
    place.until(lambda: _leads(other))
    assert other._session._runner._thread is not None


def test_who_cannot_begin_a_thread_to_lead_says_so_and_leads_later(
    memory: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its watch, which hears that nobody leads, goes on."""
    leader, other = memory.start()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "psbarrier-duty":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", refuse)
        memory.lose(leader)
        memory.until(lambda: "can't start new thread" in caplog.text, step=0)
    assert other.state is CONNECTED
    other.share("anything", 1)
    memory.until(lambda: _leads(other))


# -- closing


@pytest.mark.parametrize("wait", ["cluster", "barrier", "wait_job", "get", "changes"])
def test_closing_ends_the_waits_of_other_threads(place: Place, wait: str) -> None:
    """They get ClosedError, at once, whatever their deadline was."""
    member = place.join("worker", 0)
    waits: dict[str, Callable[[], Any]] = {
        "cluster": lambda: member.cluster(None),
        "barrier": lambda: member.barrier("b").wait(None),
        "wait_job": lambda: member.wait_job(None),
        "get": lambda: member.get("never", None),
        "changes": lambda: next(member.changes()),
    }
    waiting = call(waits[wait])
    place.until(lambda: wait != "barrier" or any("/arrivals/" in kv.key for kv in place.kvs()), step=0)
    member.close()
    error = raised(waiting)
    assert isinstance(error, ClosedError)
    assert isinstance(error, RuntimeError)


def test_closing_frees_the_slot_at_once_and_may_be_repeated(place: Place) -> None:
    """A clean exit costs the others no TTL."""
    member = place.join("worker", 0)
    member.close()
    member.close()
    assert member.state is CLOSED
    assert not any("/members/" in kv.key for kv in place.kvs())
    with pytest.raises(ClosedError):
        member.cluster(1.0)


def test_two_threads_may_close_at_once(place: Place) -> None:
    """Whoever comes second does no harm."""
    member = place.join("worker", 0)
    for future in [call(member.close) for _ in range(4)]:
        returned(future)
    assert member.state is CLOSED


def test_abandoning_leaves_the_registration_to_its_lease(place: Place) -> None:
    """The others see a loss, as after a crash of the machine."""
    member = place.join("worker", 0, ttl=2)
    member.abandon()
    assert any("/members/" in kv.key for kv in place.kvs())
    place.until(lambda: not any("/members/" in kv.key for kv in place.kvs()))


def test_no_thread_is_left(place: Place) -> None:
    """A process that has left the job can end, fork or be measured."""
    members = place.start(JOB)
    told = Told(members[0])
    members[1].barrier("b", roles="worker").abort()
    for member in members:
        member.close()
    assert told.hears(CLOSED)
    for store in place._stores:
        store.close()
    assert eventually(lambda: not own_threads()), own_threads()


def test_a_member_that_opened_its_store_closes_it(real: Place) -> None:
    """join("host:port", …) leaves nothing open after close()."""
    assert real.etcd is not None
    with psbarrier.join(real.etcd.endpoint, real.job, "worker", 0, replicas={"worker": 1}) as member:
        member.cluster(PATIENCE)
        assert own_threads()
    assert eventually(lambda: not own_threads()), own_threads()


def test_closing_without_etcd_takes_two_seconds_at_most(own_etcd: EtcdServer) -> None:
    """A process that wants to end is not held up by an outage."""
    with Place(own_etcd) as place:
        member = place.join("worker", 0)
        own_etcd.kill()
        began = time.monotonic()
        member.close()
        assert time.monotonic() - began <= 3.5  # two of its own, and what a busy machine adds


def test_a_closed_leader_keeps_the_run_alive_no_longer(memory: Place) -> None:
    """However closing and leading interleave, nobody beats the run's lease after the last one has left."""
    for _ in range(20):
        with_others = memory.memory_client()
        member = memory.join("worker", 0, store=with_others, run=None)
        member.close()
        assert all(keeping.stopped for keeping in with_others._keepings)


def test_a_lease_that_dies_before_join_returns_is_noticed(memory: Place) -> None:
    """etcd says so once only, and nobody had a task to lose yet."""
    memory.join("worker", 1)  # leads, so that no vacant leadership gives the loss away
    store = memory.memory_client()
    original = store.txn
    died: list[int] = []

    def die_after_joining(txn: Any, *, until: float) -> Any:
        reply = original(txn, until=until)
        registered = [kv for kv in memory.kvs() if kv.key.endswith("/members/worker/0")]
        if registered and not died:
            died.append(registered[0].lease)
            memory.memory.expire(registered[0].lease)
            memory.memory.advance(6.0)  # the beat that brings the news
        return reply

    store.txn = die_after_joining  # type: ignore[method-assign]
    member = memory.join("worker", 0, store=store)
    memory.until(lambda: member.state is LOST, step=0)
