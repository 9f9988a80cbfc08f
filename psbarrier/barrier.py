"""Barrier: threading.Barrier for the tasks of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from psbarrier.arguments import deadline
from psbarrier.errors import ConcurrentWaitError, InvalidArgumentError, MalformedValueError
from psbarrier.flows.effects import settle
from psbarrier.flows.gate import GRACE, registered_tasks
from psbarrier.flows.meeting import Meeting
from psbarrier.flows.parties import aborting, defining, missing_parties, resetting
from psbarrier.home import Home, at_home
from psbarrier.protocol.barrier_records import Definition
from psbarrier.protocol.party import Party
from psbarrier.protocol.views import ControlView
from psbarrier.session import Session
from psbarrier.store.base import Txn

PATIENCE = 60.0
"""Seconds that a request may take for which its caller gives no deadline."""

if TYPE_CHECKING:
    from psbarrier.protocol.standing import Standing
    from psbarrier.spec import Task


class Barrier:
    """Lets nobody pass until every task of its roles has arrived; made by `Member.barrier()`.

    The names and manners are those of threading.Barrier, with these differences. A generation is released or broken,
    one of the two, and the same for all. A barrier that was broken stays so until somebody calls `reset()`. A release
    means that every party *arrived*; not that every party is still alive. `generation` counts releases over the whole
    run, so a task that was restarted finds out from it where the others are.
    """

    def __init__(
        self, session: Session, me: Standing, view: ControlView, name: str, roles: tuple[str, ...], on_loss: str
    ) -> None:
        self.name = name
        self.roles = roles
        self.on_loss = on_loss
        self._session, self._view = session, view
        self._now: Callable[[], float] = session.clock.now
        self._party = Party(me, name, Definition.of(roles, me.config.replicas))
        self._home = Home(f"barrier {name!r} of job {me.job!r}")
        self._one_at_a_time = threading.Lock()
        self._calls = 0

    @at_home
    def define(self) -> None:
        """Make the barrier known in etcd.

        Raises BarrierMismatchError when its name means other roles there, StoreUnavailableError when etcd is out of reach
        for 60 s.
        """
        self._session.run(defining(self._party, self._now, self._patiently()))

    @at_home
    def wait(self, timeout: float | None = 600.0, generation: int | None = None) -> int:
        """Arrive, and wait until all parties have; at most `timeout` seconds (None: without a limit).

        Returns the order of arrival, 0 to parties - 1, each exactly once per generation. With `generation`, a
        generation that is already over returns -1 at once, and so does, without it, one that a former incarnation of
        this task had completed. One thread at a time: a second one gets ConcurrentWaitError.

        Raises BarrierTimeoutError when the deadline passes, which breaks the generation for all; BarrierBrokenError
        when it was broken by another party, or by one that has finished (or, with on_loss="break", is lost);
        BarrierOutcomeUnknownError when etcd is out of reach at the deadline; JobFailedError or JobOverError when the job
        is over; SlotLostError when this process has lost its task. An interrupt (Ctrl-C) breaks the generation.
        """
        until = deadline(self._now, timeout)
        if generation is not None and (
            isinstance(generation, bool) or not isinstance(generation, int) or generation < 0
        ):
            raise InvalidArgumentError(f"generation={generation!r} is not a whole number from 0 on")
        if not self._one_at_a_time.acquire(blocking=False):
            raise ConcurrentWaitError(
                f"another thread of {self._party.me.task} waits on barrier {self.name!r} already: one task arrives once, "
                "so let one thread wait for all"
            )
        try:
            self._calls += 1
            clock = self._session.clock
            meeting = Meeting(self._party, self._view, self._calls, self.on_loss, clock.now, clock.wall, until)
            try:
                return self._session.run(meeting.run(generation))
            except (KeyboardInterrupt, SystemExit):
                meeting.limit = self._now() + GRACE
                self._session.run(meeting.interrupt())
                raise
        finally:
            self._one_at_a_time.release()

    @at_home
    def abort(self) -> None:
        """Break the open generation for all parties. Raises StoreUnavailableError when etcd is out of reach for 60 s."""
        self._session.run(aborting(self._party, self._view, self._now, self._patiently()))

    @at_home
    def reset(self) -> None:
        """Open the barrier again if it is broken, under the same generation number.

        Only the break that this process has seen is reset, so several may call it: the second one does nothing. Raises
        StoreUnavailableError when etcd is out of reach for 60 s.
        """
        self._session.run(resetting(self._party, self._view, self._now, self._patiently()))

    @property
    def parties(self) -> int:
        """How many tasks must arrive; with an elastic role, those that the open generation counts, or would count if it
        began now."""
        return self._party.definition.parties or len(self._party.tasks(self._view))

    @property
    @at_home
    def generation(self) -> int:
        """How often the barrier has been released in this run, as far as this process has heard. Costs no request."""
        return self._view.barrier(self.name).record.attempt.generation

    @property
    @at_home
    def broken(self) -> bool:
        """Whether the open generation is broken, as far as this process has heard. Costs no request."""
        return self._view.barrier(self.name).record.broken is not None

    @property
    @at_home
    def n_waiting(self) -> int:
        """How many parties have arrived in the open generation; one request."""
        return len(self._arrived())

    @at_home
    def missing(self) -> dict[str, str]:
        """The parties that have not arrived in the open generation, and what is known of each; one request."""
        return missing_parties(self._party, self._view, self._arrived())

    def _arrived(self) -> set[Task]:
        at = self._view.barrier(self.name).record.attempt
        reply = self._session.run(settle(Txn(then=(self._party.arrivals(at),)), self._now, self._patiently()))
        return registered_tasks(self._party.me.keys.arrivals(self.name, at), reply.many(0))

    def _patiently(self) -> float:
        """An etcd that restarts, and then has hundreds to log in, may need most of it."""
        return self._now() + PATIENCE

    def __repr__(self) -> str:
        if self._home.left:
            return f"<Barrier {self.name!r} of process {self._home.pid}, {self.parties} parties>"
        try:
            seen = self._view.barrier(self.name).record
        except MalformedValueError:
            return f"<Barrier {self.name!r} with a malformed record in etcd, {self.parties} parties>"
        how = f"broken by {seen.broken.by}: {seen.broken.reason}" if seen.broken else "open"
        return f"<Barrier {self.name!r} gen {seen.attempt.generation}: {how}, {self.parties} parties>"
