"""The barrier when the network, the clock or the user gets in between."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from helpers import python
from jobs import PATIENCE, TWO, Losing, Place, call, raised, returned, written

from psbarrier import Barrier
from psbarrier.embedded import EtcdServer
from psbarrier.errors import BarrierBrokenError, BarrierOutcomeUnknownError, BarrierTimeoutError
from psbarrier.store.base import Txn, TxnReply
from psbarrier.store.memory import MemoryStore


def pair(place: Place, losing: Losing | None = None) -> tuple[MemoryStore, Barrier, Barrier]:
    """A barrier of two, the first of which has a network that the test can cut, or that loses a reply."""
    store = place.memory_client()
    first, second = place.join("worker", 0, store=losing or store), place.join("worker", 1)
    first.cluster(PATIENCE)
    return store, first.barrier("b"), second.barrier("b")


# -- replies that are lost


@pytest.mark.parametrize("applied", [False, True])
def test_an_arrival_whose_reply_is_lost_is_counted_once(memory: Place, applied: bool) -> None:
    """Repeating it is harmless, and the order of arrival is found out."""
    store = Losing(memory.client(), "/arrivals/", applied)
    _, first, second = pair(memory, store)
    waiting = call(first.wait, PATIENCE)
    memory.until(lambda: second.n_waiting == 1, step=0)
    assert second.wait(PATIENCE) == 1
    assert returned(waiting) == 0
    assert store.lost


@pytest.mark.parametrize("applied", [False, True])
def test_a_release_whose_reply_is_lost_is_one_release(memory: Place, applied: bool) -> None:
    """The one who came last may not know it; all pass all the same, and once."""
    store = Losing(memory.client(), "/arrivals/", applied)
    _, last, first = pair(memory, store)
    waiting = call(first.wait, PATIENCE)
    memory.until(lambda: first.n_waiting == 1, step=0)
    assert last.wait(PATIENCE) == 1
    assert returned(waiting) == 0
    assert first.generation == last.generation == 1


@pytest.mark.parametrize("applied", [False, True])
def test_a_timeout_whose_break_is_not_confirmed_is_still_this_callers_timeout(memory: Place, applied: bool) -> None:
    """The caller whose deadline it was gets BarrierTimeoutError, and everybody the names of the missing."""
    store = Losing(memory.client(), "/control/barriers/", applied)
    _, first, second = pair(memory, store)
    store.lost = True  # not yet: an arrival may write that key, too
    waiting = call(first.wait, 4.0)
    memory.until(lambda: second.n_waiting == 1, step=0)
    store.lost = False
    memory.until(waiting.done, step=0.1)
    assert store.lost
    error = raised(waiting)
    assert type(error) is BarrierTimeoutError
    assert error.missing == {"worker/1": "registered, not arrived"}
    with pytest.raises(BarrierBrokenError) as broken:
        second.wait(PATIENCE)
    assert (broken.value.by, broken.value.missing) == ("worker/0", error.missing)


def test_a_break_is_certain_even_if_etcd_goes_away_right_after_it(memory: Place) -> None:
    """That the names could not be published changes nothing about the outcome."""
    store, first, second = pair(memory)
    waiting = call(first.wait, 4.0)
    memory.until(lambda: second.n_waiting == 1, step=0)
    plain = store.txn

    def cut_after_the_break(txn: Txn, *, until: float) -> TxnReply:
        reply = plain(txn, until=until)
        if any("/control/barriers/" in key for key in written(txn)):
            store.cut()
        return reply

    store.txn = cut_after_the_break  # type: ignore[method-assign]
    memory.until(waiting.done, step=0.1)
    assert type(raised(waiting)) is BarrierTimeoutError


# -- no etcd


def test_without_etcd_at_the_deadline_the_outcome_is_unknown(memory: Place) -> None:
    """Released or broken, nobody here can know; the error says how to find out, and comes in time."""
    store, first, second = pair(memory)
    waiting = call(first.wait, 10.0)
    began = store.clock.now()
    memory.until(lambda: second.n_waiting == 1, step=0)
    store.cut()
    assert second.wait(PATIENCE) == 1
    ended: list[float] = []
    waiting.add_done_callback(lambda _: ended.append(store.clock.now()))
    memory.until(lambda: ended, step=0.05)
    error = raised(waiting)
    assert isinstance(error, BarrierOutcomeUnknownError)
    assert isinstance(error, TimeoutError)
    assert (error.barrier, error.generation) == ("b", 0)
    assert "wait(generation=0)" in str(error)
    assert 10.0 <= ended[0] - began <= 11.0
    store.heal()
    assert first.wait(PATIENCE, generation=0) == -1


def test_a_frozen_etcd_delays_no_deadline_by_more_than_a_second(own_etcd: EtcdServer) -> None:
    """An etcd that accepts connections and answers nothing is as bad as none."""
    with Place(own_etcd) as place:
        first, second = place.start(TWO)
        barrier, other = first.barrier("b"), second.barrier("b")
        waiting = call(barrier.wait, 2.0)
        began = time.monotonic()
        place.until(lambda: other.n_waiting == 1)
        own_etcd.pause()
        try:
            error = raised(waiting)
            took = time.monotonic() - began
        finally:
            own_etcd.resume()
        assert isinstance(error, BarrierOutcomeUnknownError)
        assert took <= 3.0 + 0.5  # half a second for a machine that does other things too


def test_a_wait_survives_an_outage_that_ends_before_its_deadline(memory: Place) -> None:
    """A wait goes on until its own deadline, whatever the network does meanwhile."""
    store, first, second = pair(memory)
    waiting = call(first.wait, 100.0)
    memory.until(lambda: second.n_waiting == 1, step=0)
    store.cut()
    assert second.wait(PATIENCE) == 1
    store.clock.await_waiters(1)
    memory.memory.advance(10.0)
    assert not waiting.done()
    store.heal()
    assert returned(waiting) == 0


def test_an_arrival_waits_for_an_etcd_that_comes_back(memory: Place) -> None:
    """A party that arrives during an outage has arrived when it is over."""
    store, first, second = pair(memory)
    store.cut()
    waiting = call(first.wait, 100.0)
    store.clock.await_waiters(1)
    store.heal()
    memory.until(lambda: second.n_waiting == 1, step=0.2)
    assert second.wait(PATIENCE) == 1
    assert returned(waiting) == 0


# -- interrupts

INTERRUPTED = """
import signal, sys, threading
import psbarrier

member = psbarrier.join(sys.argv[1], sys.argv[2], "worker", 0, replicas="worker=2", run="run", address="h:1")
barrier = member.barrier("b")
main = threading.main_thread().ident

def interrupt():
    while barrier.n_waiting == 0:
        pass
    signal.pthread_kill(main, signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    barrier.wait(60)
except KeyboardInterrupt:
    print("interrupted")
member.close()
"""


def test_ctrl_c_in_a_wait_breaks_the_barrier_for_the_others(real: Place) -> None:
    """The process that is interrupted will not come back to it, so nobody waits for the deadline."""
    assert real.etcd is not None
    other = real.join("worker", 1)
    barrier = other.barrier("b")
    with python(INTERRUPTED, real.etcd.endpoint, real.job) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert said == "interrupted\n"
    real.until(lambda: barrier.broken)
    with pytest.raises(BarrierBrokenError) as broken:
        barrier.wait(PATIENCE)
    assert (broken.value.by, broken.value.reason) == ("worker/0", "interrupt")
    assert "interrupted" in str(broken.value)


class Interrupting:
    """A clock that raises KeyboardInterrupt in one thread's waits, once it is told to."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.victim: threading.Thread | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        if threading.current_thread() is self.victim:
            raise KeyboardInterrupt
        self._clock.wait(condition, until)


def test_an_interrupt_names_the_missing_and_is_passed_on(memory: Place) -> None:
    """The caller gets its KeyboardInterrupt; a wait of its own can follow after a reset."""
    _, first, second = pair(memory)
    clock = Interrupting(first._session.clock)
    first._session.clock = clock

    def wait() -> None:
        clock.victim = threading.current_thread()
        first.wait(PATIENCE)

    assert isinstance(raised(call(wait)), KeyboardInterrupt)
    clock.victim = None
    with pytest.raises(BarrierBrokenError) as broken:
        second.wait(PATIENCE)
    assert broken.value.reason == "interrupt"
    assert broken.value.missing == {"worker/1": "registered, not arrived"}
    second.reset()
    memory.until(lambda: not first.broken, step=0)
    waiting = call(first.wait, PATIENCE)
    assert second.wait(PATIENCE) in (0, 1)
    assert returned(waiting) in (0, 1)
