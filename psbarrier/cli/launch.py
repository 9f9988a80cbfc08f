"""Launch: one incarnation of a task, from joining to the report of how it ended.

A launch is a small machine with one queue. Helper threads put into it what happens, and one thread, in `serve()`, takes
it out and acts, so that no two things are ever decided at once:

    at the gate ── Epoch ──▶ the command runs ── Exited ──────────────────────▶ finished or crashed
         │                         │
         │                         └── Stop, Over, Trouble ──▶ it is being ended ── Exited ──▶ left, over or error
         └── Stop, Over, Trouble ───────────────────────────────────────────────────────────▶ left, over or error

A later Epoch may end the command to start it again. That of a collective then waits for Mustered first.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from queue import Empty, SimpleQueue

from attrs import evolve

from psbarrier.cli import report
from psbarrier.cli.anchor import Anchor
from psbarrier.cli.child import Child
from psbarrier.cli.muster import muster
from psbarrier.cli.names import wait_for_names
from psbarrier.cli.outcome import Epoch, Event, Exited, Mustered, Outcome, Over, Stop, Tied, Trouble
from psbarrier.cli.plan import Plan
from psbarrier.cli.ready import ReadyFile
from psbarrier.cli.spawning import spawn, write_cluster
from psbarrier.cli.surroundings import Surroundings
from psbarrier.errors import ClosedError, InvalidArgumentError, MalformedValueError, PsBarrierError, SlotLostError
from psbarrier.flows.effects import Progress
from psbarrier.join import join
from psbarrier.member import Member
from psbarrier.protocol.handover import Handover
from psbarrier.spec import ClusterSpec
from psbarrier.state import JobState

logger = logging.getLogger("psbarrier")

ATTACHED_GRACE = 1.5
"""Seconds that a command which hears of the job's end itself gets before SIGTERM."""


class Launch:
    """One incarnation of a task: `join()`, then `serve()`; `stop()` from any thread."""

    def __init__(self, plan: Plan, around: Surroundings) -> None:
        self.plan, self._around = plan, around
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._member: Member | None = None
        self._child: Child | None = None
        self._anchor: Anchor | None = None
        self._ready = ReadyFile(plan.ready_file)
        self._spec: ClusterSpec | None = None
        self._handover: Handover | None = None
        self._why: Stop | Over | Trouble | None = None
        self._stops = 0
        self._restarting = False
        self._finished = False
        self._end_at: float | None = None
        self._quiet = False
        self._closing = threading.Event()

    @property
    def member(self) -> Member:
        """The hold on the task, once `join()` has returned."""
        assert self._member is not None
        return self._member

    def join(self) -> None:
        """Take the task; raises what `psbarrier.join` raises."""
        plan = self.plan
        self._member = join(
            self._around.store,
            plan.job,
            plan.role,
            plan.index,
            replicas=plan.replicas,
            address=plan.address,
            run=plan.run,
            ttl=plan.ttl,
            takeover=plan.takeover,
            policy=plan.policy,
            timeout=plan.join_timeout,
            on_progress=self._tell,
        )

    def stop(self, number: int) -> None:
        """End the task: the command gets this signal, and SIGKILL when its grace is over or `stop` is called again."""
        self._events.put(Stop(number))

    def serve(self) -> Outcome:
        """Wait at the gate, run the command, and report its end; the task is given up when this returns."""
        threading.Thread(target=self._watch, name=f"psbarrier-watch-{self.member.task}", daemon=True).start()
        try:
            outcome = None
            while outcome is None:
                outcome = self._act(self._next())
            return outcome
        finally:
            self._closing.set()
            self._end_child()
            if self._anchor is not None:
                self._anchor.close()
            self.member.close()

    def _end_child(self) -> None:
        """Only after an error of our own is there still a child to end."""
        if self._child is not None:
            self._child.kill()
            while not isinstance(self._events.get(), Exited):
                pass
            self._child.clear()
            self._ready.remove()

    # -- what happens

    def _watch(self) -> None:
        """Put every epoch into the queue, and then the job's end, or ours."""
        member = self.member
        try:
            self._events.put(Epoch(self._gate(member)))
            self._quiet = True  # from now on waiting is no news
            for spec in member.changes():
                self._events.put(Epoch(spec))
            self._events.put(Over(member.job_state))
        except ClosedError:
            return
        except PsBarrierError as error:
            over = self._job_state().over and not isinstance(error, SlotLostError)
            self._events.put(Over(self._job_state()) if over else Trouble(error))

    def _gate(self, member: Member) -> ClusterSpec:
        """The first spec that names us, once its names can be resolved, if that is wanted."""
        began = time.monotonic()
        spec = member.cluster(self.plan.gate_timeout)
        if self.plan.resolve:
            left = self.plan.gate_timeout - (time.monotonic() - began)
            wait_for_names(spec, max(0.0, left), self._tell, self._closing)
        return spec

    def _wait_for(self, child: Child) -> None:
        self._events.put(Exited(child.wait()))

    def _tell(self, progress: Progress) -> None:
        if not self._quiet:
            self._around.screen.tell(progress)

    def _next(self) -> Event | None:
        """The next event; None when a time has come."""
        times = [self._end_at, self._child.kill_at if self._child else None]
        due = min((at for at in times if at is not None), default=None)
        try:
            return self._events.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except Empty:
            return None

    def _act(self, event: Event | None) -> Outcome | None:
        """Do what the event asks for; the outcome, once there is one."""
        match event:
            case None:
                self._alarm()
                return None
            case Epoch():
                return self._sealed(event.spec)
            case Mustered():
                return self._mustered(event)
            case Tied():
                self._tied()
                return None
            case Exited():
                assert self._child is not None  # there is one at a time
                return self._exited(self._child, event.status)
            case Stop():
                return self._stopped(event)
            case Over() | Trouble():
                return self._ended(event)

    # -- starting the command

    def _sealed(self, spec: ClusterSpec) -> Outcome | None:
        first, self._spec = self._spec is None, spec
        if self._why is not None:
            return None
        if first:
            self._around.screen.clear()
            return self._begin(spec)
        write_cluster(self._around, spec, self.member.task)
        # In `psbarrier local` one line from whoever was started again is enough.
        level = logging.INFO if self._around.streams is None else logging.DEBUG
        logger.log(level, "%s: epoch %d is sealed, for members were replaced", self.member.task, spec.epoch)
        if self._child is None:
            return self._begin(spec)
        if self.plan.restarts:
            self._restarting = True
            self._child.end(signal.SIGTERM, self.plan.grace)
        return None

    def _begin(self, spec: ClusterSpec) -> Outcome | None:
        """Start the command, or, where it is one of a group that was there before, first wait until all are gone."""
        if not self.plan.together or spec.epoch == 1:
            return self._start(spec)
        muster(self.member, spec.epoch, self.plan.grace, self._events.put)
        return None

    def _mustered(self, event: Mustered) -> Outcome | None:
        waiting = self._child is None and self._why is None
        if waiting and self._spec is not None and self._spec.epoch == event.epoch:
            return self._start(self._spec)
        return None

    def _start(self, spec: ClusterSpec) -> Outcome | None:
        member = self.member
        try:
            self._anchor = Anchor.cast(self._around.workspace.socket, lambda: self._events.put(Tied()))
            self._handover = evolve(member.handover(), tether=self._anchor.path if self._anchor else "")
            child = self._child = spawn(self.plan, self._around, spec, self._handover)
            self._ready.make()
        except InvalidArgumentError as error:
            return report.refuse(member, error)
        except PsBarrierError as error:
            return self._ended(Trouble(error))
        threading.Thread(
            target=self._wait_for, args=(child,), name=f"psbarrier-child-{member.task}", daemon=True
        ).start()
        return None

    def _tied(self) -> None:
        """A process of the command uses the task itself, and goes on with it if we are killed."""
        if self._child is not None and self._around.outlived:
            self._around.workspace.sitter.spare(self._child.pid)

    # -- ending it

    def _alarm(self) -> None:
        """A time has come: to ask the command to end, or to kill it."""
        due, self._end_at = self._end_at, None
        if self._child is not None and due is not None:
            self._child.end(signal.SIGTERM, self.plan.grace)
        elif self._child is not None:
            self._child.kill()

    def _stopped(self, event: Stop) -> Outcome | None:
        self._stops += 1
        if self._child is None:
            return report.leave(self.member, event.number, self._look())
        if self._stops > 1:
            self._child.kill()
        elif self._why is None:
            self._why = event
            if self._anchor is not None and self._anchor.stop(self.plan.grace):
                self._child.allow(self.plan.grace)
            else:
                self._child.end(event.number, self.plan.grace)
        else:
            self._child.send(event.number)
        return None

    def _ended(self, event: Over | Trouble) -> Outcome | None:
        if self._child is None:
            return self._conclude(event)
        if self._why is None:
            if isinstance(event, Trouble):
                self._lost(event, self._child)
            else:
                self._why, self._end_at = event, time.monotonic() + self._patience()
        return None

    def _lost(self, event: Trouble, child: Child) -> None:
        """The task is not ours any more: either the command, about to end, has reported that itself, or it must end."""
        now = self._look()
        if now.departed is not None:
            self._end_at = time.monotonic() + self.plan.grace
            return
        self._why = event
        logger.error("%s cannot go on, so its command is ended", self.member.task)
        child.end(signal.SIGTERM, self.plan.grace)

    def _patience(self) -> float:
        """Seconds that the command gets, when the job is over, before it is asked to end: if its task has finished, as
        long as it likes within the grace; if it attached and hears of the end too, a moment; else none."""
        now = self._look()
        self._finished = now.finished
        if now.finished or now.departed is not None:
            return self.plan.grace
        return min(ATTACHED_GRACE, self.plan.grace) if now.attached or not now.known else 0.0

    def _look(self) -> report.Standing:
        return report.look(self._around.store, self._handover, self._job_state())

    def _job_state(self) -> JobState:
        """As far as we know; what cannot be read is not known."""
        try:
            return self.member.job_state
        except MalformedValueError as error:
            logger.warning("how job %r stands could not be read: %s", self.plan.job, error)
            return JobState()

    def _exited(self, child: Child, status: int) -> Outcome | None:
        """The command has ended. The others are told first, and then what it left behind is ended, which may take long."""
        asked = self._end_at is None
        self._child = self._end_at = None
        self._ready.remove()
        if self._anchor is not None:
            self._anchor.close()
        if self._why is None and self._restarting and self._spec is not None:
            self._restarting = False
            child.clear()
            return self._begin(self._spec)
        try:
            return self._report(status, asked=asked)
        finally:
            child.clear()

    def _report(self, status: int, *, asked: bool) -> Outcome:
        if isinstance(self._why, Over) and not asked and status and self._own_end(self._why.state):
            return report.crash(self.member, status, self._look())
        if isinstance(self._why, Over) and self._finished and self._why.state.phase == "succeeded":
            return Outcome(0, "finished")
        if isinstance(self._why, Over | Trouble):
            return self._conclude(self._why)
        if isinstance(self._why, Stop):
            return report.leave(self.member, self._why.number, self._look())
        if status == 0:
            return report.finish(self.member, self._look())
        return report.crash(self.member, status, self._look())

    def _own_end(self, state: JobState) -> bool:
        """Whether the command's code is the task's own affair, although the job is over: it was done before, or it is
        the one whose end ended the job."""
        return self._finished or state.by == str(self.member.task)

    def _conclude(self, event: Over | Trouble) -> Outcome:
        if isinstance(event, Over):
            return report.over(self.member, event.state)
        if isinstance(event.error, SlotLostError):
            return Outcome.of(event.error)
        return report.give_up(self.member, event.error)
