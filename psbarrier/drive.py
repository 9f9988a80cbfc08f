"""Drive: one flow, driven to its end for a caller who waits for its result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from psbarrier.errors import PsBarrierError, SlotLostError
from psbarrier.flows.effects import Await, Change, Effect, Flow, Pause
from psbarrier.store.base import Clock

R = TypeVar("R")


class Changed(Protocol):
    """Remembers when something changed last."""

    revision: int


class Driven(Protocol):
    """What whoever drives flows needs of their session."""

    condition: threading.Condition
    clock: Clock

    def look(self, check: Callable[[], Any]) -> Any:
        """What `check` finds, with the condition held; raises why the session is of no use any more."""

    def alarm(self, until: float | None) -> float | None:
        """When to look again although nothing has changed; needs no lock."""

    def pause_end(self, pause: Pause) -> float:
        """When a pause is over."""

    def change(self, effect: Change) -> Changed | None:
        """What remembers the changes that are waited for; None when some may have been missed."""

    def perform(self, effect: Effect) -> Any:
        """Carry out an effect that needs no waiting for others, and answer it."""

    def lose(self, error: PsBarrierError) -> None:
        """The session is of no use any more."""


class _GivenUpError(Exception):
    """Nobody waits for the result any more, and so nobody sees this."""


class Drive(Generic[R]):
    """Carries out what the flow asks for, and does its waiting on the session's condition."""

    def __init__(self, session: Driven, flow: Flow[R]) -> None:
        self._session = session
        self._flow = flow
        self._given_up = False

    def give_up(self) -> None:
        """Let the flow end where it waits now, or after the request that it is in the middle of."""
        self._given_up = True
        with self._session.condition:
            self._session.condition.notify_all()

    def run(self) -> R:
        """The flow's result, or its error."""
        flow = self._flow
        try:
            effect = next(flow)
            while True:
                try:
                    answer = self._answer(effect)
                except PsBarrierError as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        except _GivenUpError:
            flow.close()
            raise
        except SlotLostError as error:
            self._session.lose(error)
            raise

    def _answer(self, effect: Effect) -> Any:
        if self._given_up:
            raise _GivenUpError
        if isinstance(effect, Await):
            return self._wait(effect.check, effect.until)
        if isinstance(effect, Pause):
            return self._wait(lambda: None, self._session.pause_end(effect))
        if isinstance(effect, Change):
            sink = self._session.change(effect)
            return sink and self._wait(lambda: True if sink.revision > effect.revision else None, effect.until)
        return self._session.perform(effect)

    def _wait(self, check: Callable[[], Any], until: float | None) -> Any:
        session = self._session
        with session.condition:
            while True:
                if self._given_up:
                    raise _GivenUpError
                value = session.look(check)
                if value is not None:
                    return value
                if until is not None and session.clock.now() >= until:
                    return None
                session.clock.wait(session.condition, session.alarm(until))
