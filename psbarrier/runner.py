"""Runner: one thread that drives the background flows of every session on a store.

A flow is parked while it waits, and a parked flow costs no thread; so a process can simulate a thousand members. The
requests that a flow makes do block the others meanwhile, each for a few seconds at the most.

There is no thread before a flow has something to do: most members wait all their lives for a leader to go. Until then whoever
wakes the runner looks himself whether it is so.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from psbarrier.drive import Driven
from psbarrier.errors import ClosedError, PsBarrierError, SlotLostError
from psbarrier.flows.effects import Await, Effect, Flow, Pause
from psbarrier.home import Home
from psbarrier.store.base import Store

if TYPE_CHECKING:
    from collections.abc import MutableMapping

R = TypeVar("R")
logger = logging.getLogger("psbarrier")

CLOSING = 2.0
"""Seconds that closing waits for a duty that is in the middle of a request."""


class _Parked:
    """A flow and what it waits for."""

    def __init__(self, flow: Flow[None]) -> None:
        self.flow = flow
        self.check: Callable[[], Any] = lambda: True
        self.until: float | None = None
        self.first: Effect | None = None
        """What it has asked for at its start, and not been answered yet."""
        self.alarm: int | None = None
        """The number of the alarm that is set for it; those that were set before are outdated."""


class Runner:
    """Lock order: a session's condition may be held when the runner's is taken, never the other way round."""

    _all: ClassVar[MutableMapping[Store, Runner]] = weakref.WeakKeyDictionary()
    _all_lock = threading.Lock()

    def __init__(self, store: Store) -> None:
        self._home = Home("this store")
        self._clock = store.clock
        self._condition = threading.Condition()
        self._parked: dict[Driven, list[_Parked]] = {}
        self._dirty: set[Driven] = set()
        # A heap: when, a number, whose flow. Whoever drives a thousand members cannot look at all of them each time.
        self._alarms: list[tuple[float, int, Driven, _Parked]] = []
        self._serial = itertools.count()
        self._calls: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, store: Store) -> Runner:
        """The runner of `store`; ForkError in a forked child of the process that uses it."""
        with cls._all_lock:
            runner = cls._all.get(store)
            if runner is None:
                runner = cls._all[store] = cls(store)
        runner._home.require()
        return runner

    def start(self, session: Driven, flow: Flow[None]) -> None:
        """Drive `flow` until it ends, the session is forgotten, or it raises."""
        parked = _Parked(flow)
        parked.first = next(flow, None)  # which is no work yet: a flow does nothing by itself
        if parked.first is None:
            return
        with session.condition, self._condition:
            self._parked.setdefault(session, []).append(parked)
            if self._waits(session, parked, parked.first):
                parked.first = None
            if self._thread is not None or not self._asleep(session, parked):
                self._dirty.add(session)
                self._ensure_thread()

    def call(self, function: Callable[[], None]) -> None:
        """Call `function` once on the runner's thread."""
        with self._condition:
            self._calls.append(function)
            self._ensure_thread()

    def wake(self, session: Driven) -> None:
        """Something that the session's flows may wait for has changed; the session's condition is held."""
        with self._condition:
            flows = self._parked.get(session)
            if not flows or (self._thread is None and all(self._asleep(session, parked) for parked in flows)):
                return
            self._dirty.add(session)
            try:
                self._ensure_thread()
            except RuntimeError as error:  # whoever wakes us has other things to do, and the next change wakes us again
                if not sys.is_finalizing():
                    logger.warning(
                        "psbarrier cannot do what it has to in the background now, and will try again: %s", error
                    )

    def _asleep(self, session: Driven, parked: _Parked) -> bool:
        """Whether a flow has only to wait, and for nothing that comes by itself; both conditions are held."""
        if parked.first is not None or session.alarm(parked.until) is not None:
            return False
        try:
            return session.look(parked.check) is None
        except ClosedError:
            return True  # it is forgotten next
        except Exception:  # noqa: BLE001  # whatever it is, the thread that drives the flow gets it too, and says so
            return False

    def forget(self, session: Driven) -> None:
        """Drop the flows of a session. When that was the last one, the thread ends, and has ended on return."""
        with self._condition:
            self._parked.pop(session, None)
            self._dirty.discard(session)
            thread = self._thread if not self._parked else None
            self._condition.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSING)

    def _ensure_thread(self) -> None:
        """The condition is held."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="psbarrier-duty", daemon=True)
            thread.start()
            self._thread = thread
        self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                work = self._due()
                while not (work or self._calls):
                    if not self._parked:
                        self._thread = None
                        self._alarms.clear()
                        return
                    self._clock.wait(self._condition, self._alarms[0][0] if self._alarms else None)
                    work = self._due()
                calls, self._calls = self._calls, []
            for call in calls:
                call()
            for session, parked in work:
                self._advance(session, parked)

    def _due(self) -> list[tuple[Driven, _Parked]]:
        """Whoever may have something to do now; the condition is held."""
        now = self._clock.now()
        dirty, self._dirty = self._dirty, set()
        due = [(session, parked) for session in dirty for parked in self._parked.get(session, ())]
        while self._alarms and self._alarms[0][0] <= now:
            _, number, session, parked = heapq.heappop(self._alarms)
            if number != parked.alarm:
                continue
            parked.alarm = None
            if session not in dirty and parked in self._parked.get(session, ()):
                due.append((session, parked))
        return due

    def _set_alarm(self, session: Driven, parked: _Parked) -> None:
        """Look at a flow that waits at its time at the latest, if that is not set already."""
        with self._condition:
            when = session.alarm(parked.until)
            if parked.alarm is None and when is not None:
                parked.alarm = next(self._serial)
                heapq.heappush(self._alarms, (when, parked.alarm, session, parked))

    def _advance(self, session: Driven, parked: _Parked) -> None:
        """Run a flow until it waits again, or ends."""
        try:
            effect = self._resume(session, parked)
            while effect is not None and not self._park(session, parked, effect):
                effect = self._step(session, parked.flow, effect)
            self._set_alarm(session, parked)
        except StopIteration:
            self._drop(session, parked)
        except (SlotLostError, ClosedError) as error:
            self._drop(session, parked)
            if isinstance(error, SlotLostError):
                session.lose(error)
        except Exception as error:  # the other flows must go on, and somebody must hear of this one
            self._drop(session, parked)
            logger.exception("a background duty of psbarrier has ended with an error: %s", error)

    def _resume(self, session: Driven, parked: _Parked) -> Effect | None:
        """What a flow whose wait is over, or that begins, asks for; or None."""
        if parked.first is not None:
            effect, parked.first = parked.first, None
            return effect
        try:
            with session.condition:
                value = session.look(parked.check)
        except ClosedError:
            raise
        except PsBarrierError as error:
            return parked.flow.throw(error)
        if value is None and (parked.until is None or self._clock.now() < parked.until):
            return None
        return parked.flow.send(value)

    def _step(self, session: Driven, flow: Flow[None], effect: Effect) -> Effect:
        try:
            answer = session.perform(effect)
        except PsBarrierError as error:
            return flow.throw(error)
        return flow.send(answer)

    def _park(self, session: Driven, parked: _Parked, effect: Effect) -> bool:
        """Park the flow if it waits; it is looked at once more right away, for a change may just have been missed."""
        if not self._waits(session, parked, effect):
            return False
        parked.alarm = None
        with self._condition:
            if session in self._parked:
                self._dirty.add(session)
        return True

    def _waits(self, session: Driven, parked: _Parked, effect: Effect) -> bool:
        """Whether what a flow asks for is to wait; it is noted for what, and until when."""
        if isinstance(effect, Await):
            parked.check, parked.until = effect.check, effect.until
        elif isinstance(effect, Pause):
            parked.check, parked.until = (lambda: None), session.pause_end(effect)
        else:
            return False
        return True

    def _drop(self, session: Driven, parked: _Parked) -> None:
        with self._condition:
            flows = self._parked.get(session, [])
            if parked in flows:
                flows.remove(parked)
            if not flows:
                self._parked.pop(session, None)


def _forked() -> None:
    """In a forked child: another thread may have held the lock in that moment."""
    Runner._all_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
