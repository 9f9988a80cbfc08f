"""Notifier: tells callbacks of a member's changes of state, on one named thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from psbarrier.session import Session
from psbarrier.state import MemberState

logger = logging.getLogger("psbarrier")
_FINAL = (MemberState.LOST, MemberState.CLOSED)


class Notifier:
    """Started with the first callback; ends after LOST or CLOSED has been told."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._callbacks: list[Callable[[MemberState], None]] = []
        self._thread: threading.Thread | None = None

    def add(self, callback: Callable[[MemberState], None]) -> None:
        """Call `callback` with each later state. It must not block; what it raises is logged."""
        with self._session.condition:
            self._callbacks.append(callback)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=(self._session.state,), name="psbarrier-callbacks", daemon=True
                )
                self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait until the last state has been told, unless a callback is what waits."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self, told: MemberState) -> None:
        session = self._session
        while told not in _FINAL:
            with session.condition:
                while (state := session.state) is told:
                    # Only time leads from CONNECTED to SUSPENDED; everything else notifies.
                    until = session.certain_until if told is MemberState.CONNECTED else None
                    session.clock.wait(session.condition, until)
                callbacks = list(self._callbacks)
            told = state
            for callback in callbacks:
                try:
                    callback(state)
                except Exception:  # a user's mistake must not keep the other callbacks from hearing
                    logger.exception("a callback for the state %s has failed", state.name)
