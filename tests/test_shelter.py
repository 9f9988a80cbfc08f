"""The shelter: an exception of a signal handler interrupts the wait for some work, and never the work."""

from __future__ import annotations

import _thread
import random
import signal
import subprocess
import threading

import pytest
from helpers import python
from jobs import PATIENCE, Place, call, returned

import psbarrier.shelter as shelter_module
from psbarrier.shelter import dismiss, shelter, sheltered


def test_the_main_thread_has_another_do_the_work() -> None:
    """What it takes locks for is done elsewhere; its result comes back."""
    assert threading.current_thread() is threading.main_thread()
    assert shelter(lambda: threading.current_thread().name) == "psbarrier-call"


def test_one_thread_does_one_call_after_the_other_until_it_is_dismissed() -> None:
    """To start one for each would take longer than the call; and none is left when whatever was called is closed."""
    first, second = shelter(threading.current_thread), shelter(threading.current_thread)
    assert first is second
    dismiss()
    assert not first.is_alive()
    assert shelter(threading.current_thread) is not first


def test_a_thread_that_leaves_just_when_it_is_wanted_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had waited for long enough, and the main thread took it for idle."""
    monkeypatch.setattr(shelter_module, "_LINGER", 0.01)
    first = shelter(threading.current_thread)
    first.join(PATIENCE)
    gone = shelter_module._Helper()
    gone.thread.start()
    gone.thread.join(PATIENCE)
    monkeypatch.setattr(shelter_module, "_idle", [gone])
    assert shelter(lambda: threading.current_thread().name) == "psbarrier-call"


def test_any_other_thread_does_the_work_itself() -> None:
    """No signal handler runs there, and a thread less is a thread less."""

    def own() -> bool:
        return shelter(threading.current_thread) is threading.current_thread()

    assert returned(call(own))


def test_an_error_of_the_work_is_the_callers() -> None:
    """With the traceback that says where it came from."""

    def divide() -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError) as error:
        shelter(divide)
    assert "divide" in [entry.name for entry in error.traceback]


def test_a_sheltered_method_keeps_its_name_and_arguments() -> None:
    """Whoever reads the documentation or a traceback sees no difference."""

    @sheltered
    def scaled(value: int, *, by: int) -> int:
        """Multiply."""
        return value * by

    assert scaled(3, by=4) == 12
    assert (scaled.__name__, scaled.__doc__) == ("scaled", "Multiply.")


def test_an_interrupt_reaches_the_caller_while_the_work_goes_on() -> None:
    """The caller is told at once, the work is told to end, and nothing in it was torn apart."""
    go_on, abandoned, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with signal_safe:
            _thread.interrupt_main()
            go_on.wait(PATIENCE)
        ended.set()

    signal_safe = threading.Condition()
    with pytest.raises(KeyboardInterrupt):
        shelter(work, abandoned.set)
    assert abandoned.is_set()
    assert not ended.is_set()
    assert shelter(lambda: 1) == 1  # another thread does it: nobody waits for the one that goes on alone
    go_on.set()
    assert ended.wait(PATIENCE)
    with signal_safe:
        pass  # the lock was given back


def test_work_is_done_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the interpreter ends: leaving etcd in order matters more then than an interrupt."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    dismiss()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert shelter(threading.current_thread) is threading.main_thread()


BUSY = """
import sys, threading, psbarrier, psbarrier.store.etcd

def member(role):
    return psbarrier.join(sys.argv[1], sys.argv[2], role, 0, replicas="ps=1,worker=1", run="run", address="h:1")

def meet(me):
    me.cluster()
    barrier = me.barrier("b")
    while True:
        barrier.wait(60)

def other():
    with member("ps") as me:
        meet(me)

print("ready", flush=True)
threading.Thread(target=other, daemon=True).start()
with member("worker") as me:
    meet(me)
"""


@pytest.mark.parametrize("seed", range(6))
def test_ctrl_c_at_any_moment_ends_the_process(real: Place, seed: int) -> None:
    """While it joins, waits at the gate, or passes barriers as fast as it can: it never hangs instead.

    The moment is random, and again in each run: none may be found that hangs. A second Ctrl-C follows, as from a person
    who has no patience.
    """
    assert real.etcd is not None
    moment = random.Random(f"{seed} {real.job}").uniform(0, 0.4)
    with python(BUSY, real.etcd.endpoint, f"{real.job}-{seed}", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(signal.SIGINT)
        if seed % 2:
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in said
    assert process.returncode != 0
