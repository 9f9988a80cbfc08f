"""Slots: the tasks that this process holds, each over its incarnations, and what ends them all.

`psbarrier run` has one, `psbarrier local` one for each task of the job. The main thread takes signals and outcomes from
one queue; every slot has a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from attrs import frozen

from psbarrier.cli.launch import Launch
from psbarrier.cli.outcome import Outcome
from psbarrier.cli.signals import Interrupted, Received
from psbarrier.errors import PsBarrierError

logger = logging.getLogger("psbarrier")

PATIENCE = 3
"""The first signal asks the commands to end, the second kills them, and at the third nothing is waited for any more."""


_LOOK_UP = 0.5  # seconds


class Slot:
    """One task. `again` makes the launch of its next incarnation after a crash; None: whoever started us does that."""

    def __init__(self, launch: Launch, again: Callable[[], Launch] | None = None) -> None:
        self._launch, self._again = launch, again
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, *, joined: bool = False) -> Outcome:
        """Launch the task, and again after each crash while the job forgives it; how it ended in the end."""
        crash: Outcome | None = None
        while True:
            launch = self._launch
            try:
                if not joined:
                    launch.join()
                if crash is not None:
                    logger.warning("%s; starting it again (restart %d)", crash.said, launch.member.restarts)
                outcome = launch.serve()
            except PsBarrierError as error:
                outcome = Outcome.of(error)
                if crash is not None and outcome.kind == "over":
                    return crash  # it was not forgiven
            if outcome.kind != "crashed" or not self._renew():
                return outcome
            crash, joined = outcome, False

    def _renew(self) -> bool:
        """Make the next incarnation's launch; False when there is to be none."""
        following = self._again() if self._again is not None else None
        with self._lock:
            if following is None or self._stopped:
                return False
            self._launch = following
            return True

    def stop(self, number: int) -> None:
        """End the task, and do not start it again."""
        with self._lock:
            self._stopped = True
            self._launch.stop(number)


@frozen
class Ended:
    """A slot's thread is done; `error` is what nobody had foreseen."""

    index: int
    outcome: Outcome | None
    error: BaseException | None = None


class Attendance:
    """Runs slots until all have ended. `queue` is where signals arrive too."""

    def __init__(self, slots: Sequence[Slot], queue: SimpleQueue[Any]) -> None:
        self._slots, self._queue = slots, queue
        self.signals: list[int] = []
        """The signals that have arrived."""

    def run(self, *, joined: bool = False) -> list[Outcome]:
        """Each slot's outcome, in their order. When one cannot be held, the others are ended too.

        Raises Interrupted at the third signal.
        """
        for index in range(len(self._slots)):
            name = f"psbarrier-slot-{index}"
            threading.Thread(target=self._serve, args=(index, joined), name=name, daemon=True).start()
        outcomes: dict[int, Outcome] = {}
        while len(outcomes) < len(self._slots):
            event = self._next()
            if isinstance(event, Received):
                self._receive(event.number)
            elif isinstance(event, Ended):
                if event.outcome is None:
                    raise event.error or AssertionError("a slot ended without an outcome")
                outcomes[event.index] = event.outcome
                if event.outcome.said:
                    logger.log(logging.ERROR if event.outcome.code else logging.INFO, "%s", event.outcome.said)
                if event.outcome.kind == "error":
                    self._stop(signal.SIGTERM)
        return [outcomes[index] for index in range(len(self._slots))]

    def _next(self) -> Any:
        """The next event. Who falls asleep just as a signal arrives handles it when he looks up, and not never."""
        while True:
            with contextlib.suppress(Empty):
                return self._queue.get(timeout=_LOOK_UP)

    def _serve(self, index: int, joined: bool) -> None:
        try:
            self._queue.put(Ended(index, self._slots[index].run(joined=joined)))
        except BaseException as error:  # noqa: BLE001  # the main thread raises it
            self._queue.put(Ended(index, None, error))

    def _receive(self, number: int) -> None:
        self.signals.append(number)
        if len(self.signals) >= PATIENCE:
            raise Interrupted(number)
        if len(self.signals) == 1:
            logger.info("ending the commands after %s; a second signal kills them", signal.Signals(number).name)
        # A command that nobody reads any more may ignore SIGPIPE; it is told in the usual way.
        self._stop(signal.SIGTERM if number == signal.SIGPIPE else number)

    def _stop(self, number: int) -> None:
        for slot in self._slots:
            slot.stop(number)
