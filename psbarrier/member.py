"""Member: one process's place in a running job. Made by `join()`."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from psbarrier.arguments import check_json, choice, deadline
from psbarrier.barrier import PATIENCE, Barrier
from psbarrier.errors import (
    BarrierMismatchError,
    ClosedError,
    InvalidArgumentError,
    JobFailedError,
    JobOverError,
    PsBarrierError,
    SlotLostError,
    StoreUnavailableError,
)
from psbarrier.flows.attaching import handing_over
from psbarrier.flows.ending import departing, failing, finishing, getting, sharing, watching_job
from psbarrier.flows.gate import passing
from psbarrier.flows.joining import Joined
from psbarrier.flows.rendezvous import rendezvous
from psbarrier.home import Home, at_home
from psbarrier.notifier import Notifier
from psbarrier.protocol.codec import one_line
from psbarrier.protocol.handover import Handover
from psbarrier.protocol.records import Departure
from psbarrier.session import Session
from psbarrier.spec import ClusterSpec, Replicas, Task, check_name
from psbarrier.state import JobState, MemberState

if TYPE_CHECKING:
    from psbarrier.store.base import Compare
    from psbarrier.tether import Tether

logger = logging.getLogger("psbarrier")

LARGEST_SHARED = 4096
"""Bytes, as JSON: a shared value goes to every member."""
WAIT = 600.0
"""Seconds: the default deadline of whatever waits for other processes."""


class Member:
    """One incarnation of a task, alive as long as it is open.

    A context manager. Leaving it without an exception (or with SystemExit(0)) after `cluster()` has returned finishes
    the task; with KeyboardInterrupt, or once `stopping` is set, the task has *left* and may come back; with any other
    exception it has *crashed*.
    In each case the others learn it at once. Safe to use from several threads.

    In a forked child, as a data loader's worker is one, who one is may be asked (`task`, `job`, `run`, `address`,
    `token` …); everything else raises ForkError at once, and leaving the block or closing does nothing.
    """

    def __init__(
        self,
        session: Session,
        joined: Joined,
        *,
        owns_store: bool,
        attached: bool = False,
        tether: Tether | None = None,
    ) -> None:
        self._session, self._view = session, joined.view
        self._me, self._registration = joined.standing, joined.registration
        self._owns_store, self._attached = owns_store, attached
        self._now, self._wall = session.clock.now, session.clock.wall
        self._home = Home(f"{self._me.task} of job {self._me.job!r}")
        self._notifier = Notifier(session)
        self._tether = tether
        self._stopping = tether.stopping if tether is not None else threading.Event()
        self._barriers: dict[str, Barrier] = {}
        self._cluster: ClusterSpec | None = None
        self._met: ClusterSpec | None = None
        self._finished = self._ended = False

    # -- who am I

    @property
    def task(self) -> Task:
        """The task that this process holds."""
        return self._me.task

    @property
    def job(self) -> str:
        """The job's name."""
        return self._me.job

    @property
    def run(self) -> str:
        """The run of the job."""
        return self._me.run

    @property
    def address(self) -> str:
        """The `host:port` that the others were told."""
        return self._me.address

    @property
    def incarnation(self) -> str:
        """A name that no other process, before or after, shares."""
        return self._me.incarnation

    @property
    def token(self) -> int:
        """The fencing token: it grows with every incarnation of any task of the run.

        Whoever stores a checkpoint refuses a writer with a lower token than it has seen. That is what protects against
        a process that was suspended and wakes up after its task was given to another.
        """
        return self._me.token

    @property
    def lease(self) -> int:
        """The id of the lease that this task's registration is bound to."""
        return self._me.lease

    @property
    def restarts(self) -> int:
        """How often this task has crashed before, in this run."""
        return self._me.restarts

    @property
    @at_home
    def state(self) -> MemberState:
        """CONNECTED, SUSPENDED, LOST or CLOSED, computed when it is read."""
        return self._session.state

    @at_home
    def on_state(self, callback: Callable[[MemberState], None]) -> None:
        """Call `callback` with each later state, on a thread of its own (one for all callbacks); it must not block."""
        self._notifier.add(callback)

    @property
    @at_home
    def stopping(self) -> threading.Event:
        """Set once this task is asked to end: time for a last checkpoint, and then to leave the `with` block.

        A task that leaves it without an exception, and without a call of `finish()`, has then *left*, and may come back.

        Under `psbarrier run`, SIGTERM to that sets it, and from the first look at this property on it does so in place
        of a signal to the command, which has `--grace` seconds then. Elsewhere nobody sets it but the program itself, in
        a signal handler of its own for example.
        """
        if self._tether is not None:
            self._tether.listen()
        return self._stopping

    @at_home
    def guard(self) -> tuple[Compare, ...]:
        """Compares to embed in one's own etcd transaction, so that it is refused once this task is lost.

        Each has `key`, `target` ("create": the create revision) and `value`. Raises StoreUnavailableError while the
        member is SUSPENDED, SlotLostError when it is LOST.
        """
        self._session.require_open()
        if self.state is MemberState.SUSPENDED:
            raise StoreUnavailableError(
                f"{self.task} is suspended: etcd confirmed none of its keep-alives for a TTL, so it may not act as the "
                "holder of its task until one is confirmed again"
            )
        return self._me.guard

    @at_home
    def handover(self) -> Handover:
        """What lets one other process attach to this task, with `join()`, by PSBARRIER_SESSION; one request.

        Raises SlotLostError, StoreUnavailableError.
        """
        return self._session.run(handing_over(self._me, self._session.store.prefix, self._now, self._patiently()))

    # -- who are the others, may I start

    @at_home
    def cluster(self, timeout: float | None = WAIT) -> ClusterSpec:
        """The gate: wait until every task is registered, and return the sealed spec, the same for all.

        Called again, it returns the newest epoch. Raises GateTimeoutError after `timeout` seconds (None: no limit), with
        who is missing and why; JobFailedError or JobOverError when the job is over; SlotLostError.
        """
        return self._pass(deadline(self._now, timeout), later=False)

    def changes(self, timeout: float | None = None) -> Iterator[ClusterSpec]:
        """Each later epoch, as members are replaced, until the job succeeds; some may be skipped if they come fast.

        Waits at most `timeout` seconds for each (None: no limit), then raises GateTimeoutError. Raises JobFailedError when
        the job fails.
        """
        self._home.require()
        return self._changes(timeout)

    def _changes(self, timeout: float | None) -> Iterator[ClusterSpec]:
        while True:
            try:
                yield self._pass(deadline(self._now, timeout), later=True)
            except JobFailedError:
                raise
            except JobOverError:
                return

    @at_home
    def rendezvous(self, timeout: float | None = WAIT) -> ClusterSpec:
        """Wait until all members of an epoch have called this, and return that epoch, the same for all.

        For a job with an elastic role: whoever starts a collective must know that all others start the same one. When
        members come or go meanwhile, it goes on to the next epoch by itself. Called again, it waits for a later epoch than
        it returned before.

        Raises InvalidArgumentError where no role is elastic; GateTimeoutError or BarrierTimeoutError after `timeout`
        seconds (None: no limit), with who is missing and why; BarrierBrokenError when a member of the epoch has finished
        and so will not come; JobFailedError or JobOverError when the job is over; SlotLostError.
        """
        if not self._me.config.replicas.elastic():
            raise InvalidArgumentError(
                f"job {self.job!r} has no elastic role, so its members change only when one is replaced: use cluster(), "
                "changes() and barrier()"
            )
        until = deadline(self._now, timeout)
        flow = rendezvous(self._me, self._view, self._now, self._wall, until, self._met)
        found = self._session.run(flow)
        if isinstance(found, JobState):
            raise found.error(self.job)
        self._cluster = self._met = found
        return found

    def _pass(self, until: float | None, *, later: bool) -> ClusterSpec:
        flow = passing(
            self._me, self._view, self._now, until, known=self._cluster, later=later, shelf=self._session.shelf
        )
        found = self._session.run(flow)
        if isinstance(found, JobState):
            raise found.error(self.job)
        self._cluster = found
        return found

    @property
    @at_home
    def epoch(self) -> int:
        """The newest epoch, as far as this process has heard; 0 before the first. Costs no request."""
        return self._view.seal[0].epoch if self._view.seal is not None else 0

    @property
    @at_home
    def closing(self) -> bool:
        """Whether some task of this one's role has finished, as far as this process has heard. Costs no request.

        Where the role is elastic nobody new is let in then.
        """
        return any(task.role == self.task.role for task in self._view.gone.finished)

    # -- meeting the others

    @at_home
    def barrier(
        self, name: str, roles: Iterable[str] | None = None, on_loss: Literal["wait", "break"] = "wait"
    ) -> Barrier:
        """The barrier `name`, whose parties are all tasks of `roles` (of all roles by default); one request.

        With on_loss="wait", a party whose lease ran out is awaited until it is back, the job fails or the deadline
        passes; with "break", it breaks the barrier at once. The same call again returns the same object.

        Raises BarrierMismatchError when the name means other roles elsewhere, InvalidArgumentError when this task is
        not among the parties, StoreUnavailableError when etcd is out of reach for 60 s.
        """
        replicas = self._me.config.replicas
        check_name("barrier", name)
        wanted = _roles(replicas, roles)
        if self.task.role not in wanted:
            raise InvalidArgumentError(
                f"{self.task} is no party of barrier {name!r}, whose roles are {', '.join(wanted)}"
            )
        choice("on_loss", on_loss, "wait", "break")
        known = self._barriers.get(name)
        if known is None:
            known = Barrier(self._session, self._me, self._view, name, wanted, on_loss)
            known.define()
            known = self._barriers.setdefault(name, known)
        if known.roles != wanted:
            raise BarrierMismatchError(
                f"barrier {name!r} of job {self.job!r} already means the roles {', '.join(known.roles)}, and here it is "
                f"asked for with {', '.join(wanted)}: use another name for another set",
                ours=wanted,
                theirs=known.roles,
            )
        if known.on_loss != on_loss:
            raise InvalidArgumentError(
                f"barrier {name!r} was made with on_loss={known.on_loss!r}: keep to one of the two"
            )
        return known

    @at_home
    def share(self, key: str, value: Any) -> None:
        """Tell all members a small value: whatever JSON can hold, at most 4 KiB of it. The last one to share wins.

        Raises InvalidArgumentError for a value that is none or too long, StoreUnavailableError when etcd is out of reach for
        60 s.
        """
        check_name("shared value", key)
        try:
            check_json(value)
            size = len(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"the shared value {key!r} cannot be written as JSON: {error}") from error
        if size > LARGEST_SHARED:
            raise InvalidArgumentError(
                f"the shared value {key!r} is {size} bytes long, and {LARGEST_SHARED} are allowed, for every member gets "
                "it: share a path or an address instead"
            )
        self._session.run(sharing(self._me, self._view, key, value, uuid.uuid4().hex, self._now, self._patiently()))

    @at_home
    def get(self, key: str, timeout: float | None = WAIT) -> Any:
        """What is shared as `key`, as soon as it is; ShareTimeoutError after `timeout` seconds (None: no limit)."""
        check_name("shared value", key)
        until = deadline(self._now, timeout)
        return self._session.run(getting(self._me, self._view, key, self._now, until)).value

    # -- are we done

    @property
    @at_home
    def job_state(self) -> JobState:
        """How the job stands, as far as this process has heard."""
        return self._view.state

    @at_home
    def wait_job(self, timeout: float | None = None) -> JobState:
        """Wait until the job is over, and return how it ended; JobTimeoutError after `timeout` seconds.

        By default there is no limit, for a training has none either: a task that is lost ends the job, and this wait,
        after its grace. Raises SlotLostError when this process has lost its own task.
        """
        return self._session.run(watching_job(self._me, self._view, self._now, deadline(self._now, timeout)))

    @at_home
    def finish(self) -> None:
        """This task is done. The job succeeds when every task has finished that the policy waits for.

        Does nothing when the task has finished already or the job has succeeded; raises JobFailedError when the job has
        failed, StoreUnavailableError when etcd is out of reach for 60 s.
        """
        if self._finished or self._view.state.phase == "succeeded":
            return
        if self._view.state.over:
            raise self._view.state.error(self.job)
        self._session.run(finishing(self._me, self._view, self._registration, self._now, self._wall, self._patiently()))
        self._finished = self._ended = True

    @at_home
    def fail(self, reason: str, exit_code: int = 1) -> JobState:
        """End the job as failed, for everybody; returns how it ended, which another may have decided before."""
        state = JobState("failed", str(self.task), _one_line(reason), exit_code, self._wall())
        ended = self._session.run(failing(self._me, state, self._now, self._soon()))
        self._ended = True
        return ended

    @at_home
    def crash(self, reason: str, exit_code: int = 1) -> None:
        """Report that this task has crashed: it uses up one of the policy's restarts, or fails the job, and is free for
        its next incarnation at once. The member is of no use afterwards."""
        self._depart("crashed", reason, exit_code)

    @at_home
    def leave(self, reason: str = "asked to leave") -> None:
        """Report that this task goes away without being done, and may come back: a preemption, a drain."""
        self._depart("left", reason, 0)

    def _depart(self, kind: Literal["crashed", "left"], reason: str, exit_code: int) -> None:
        if self._ended or self._view.state.over:
            return
        departure = Departure(self.incarnation, kind, _one_line(reason), exit_code, self._wall())
        self._session.run(departing(self._me, departure, self._now, self._soon()))
        self._ended = True

    # -- leaving

    def close(self) -> None:
        """Give the task up: stop everything and revoke the lease, so that the others need not wait for it to run out.

        Takes 2 s at most when etcd is out of reach. Idempotent; threads that wait get ClosedError. Nothing in a forked
        child: the task is its parent's.
        """
        self._close(revoke=not self._attached)

    def abandon(self) -> None:
        """Just stop: the lease is left to run out, and the task counts as lost then."""
        self._close(revoke=False)

    def _close(self, *, revoke: bool) -> None:
        if self._home.left:
            return
        if self._tether is not None:
            self._tether.close()
        self._session.close(revoke=revoke)
        self._notifier.join(2.0)
        if self._owns_store:
            self._session.store.close()

    @at_home
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._home.left:  # how a forked child ends says nothing about the task
            return
        try:
            if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
                self._leave_well()
            else:
                with contextlib.suppress(SlotLostError, ClosedError):
                    self._report(error)
        finally:
            self.close()

    def _leave_well(self) -> None:
        """Without an exception: done, unless it never began, or was asked to end before it was."""
        if self._ended or self._cluster is None:
            return
        if self._stopping.is_set():
            self.leave()
        else:
            self.finish()

    def _report(self, error: BaseException) -> None:
        """Tell the others why the block was left; what goes wrong with that must not hide the error itself."""
        try:
            if isinstance(error, KeyboardInterrupt):
                self.leave("interrupted")
            elif isinstance(error, SystemExit):
                code = error.code if isinstance(error.code, int) else 1
                self.crash(f"it exited with code {error.code!r}", code)
            elif not isinstance(error, SlotLostError | JobOverError):
                self.crash(f"{type(error).__name__}: {error}")
        except PsBarrierError as trouble:
            logger.warning("why %s ends could not be reported: %s", self.task, trouble)

    def _patiently(self) -> float:
        """An etcd that restarts, and then has hundreds to log in, may need most of it."""
        return self._now() + PATIENCE

    def _soon(self) -> float:
        """For what is said on the way out."""
        return self._now() + 2 * self._session.store.request_timeout

    def __repr__(self) -> str:
        state = f"of process {self._home.pid}" if self._home.left else self.state.value
        return f"<Member {self.task} of job {self.job!r} run {self.run!r}: {state}, token {self.token}>"


def _roles(replicas: Replicas, given: Iterable[str] | None) -> tuple[str, ...]:
    """The roles of a barrier, sorted."""
    if given is None:
        return replicas.roles
    if not isinstance(given, Iterable):
        raise InvalidArgumentError(f"roles={given!r} is neither a role nor several")
    roles = (given,) if isinstance(given, str) else tuple(given)
    for role in roles:
        replicas.require(Task(role, 0))
    return tuple(sorted(set(roles)))


def _one_line(reason: str, limit: int = 500) -> str:
    """`reason` as one line of at most `limit` characters: it goes to every member."""
    line = " ".join(one_line(reason).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
