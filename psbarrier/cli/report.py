"""How a launch's end is told to the job: as finished, crashed or left, once, whoever tells it first.

A command that uses psbarrier itself may have told it already. etcd then refuses our own report, and that is fine.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable

from attrs import frozen

from psbarrier.cli import exits
from psbarrier.cli.outcome import Outcome
from psbarrier.errors import PsBarrierError, StoreError
from psbarrier.exit_status import describe, shell_code
from psbarrier.member import Member
from psbarrier.protocol.handover import Handover
from psbarrier.protocol.records import Departure, Registration, unpack_state
from psbarrier.state import JobState
from psbarrier.store.base import Range, Store
from psbarrier.times import clock_time

logger = logging.getLogger("psbarrier")


@frozen
class Standing:
    """What etcd says of a task: how its job stands, whether it has finished, and whether a command attached to it.

    `known` is False where etcd did not say. `departed` is what the command itself has reported, if it has.
    """

    state: JobState
    known: bool = False
    finished: bool = False
    attached: bool = False
    departed: Departure | None = None


def look(store: Store, handover: Handover | None, state: JobState) -> Standing:
    """How the task stands now; as far as known, `state`, where etcd does not say."""
    if handover is None:
        return Standing(state)
    me = handover.standing
    reads = (Range(me.keys.state), Range(me.key), Range(me.keys.departure(me.task)))
    try:
        reply = store.read(*reads, until=store.clock.now() + store.request_timeout)
        over, member, gone = reply.one(0), reply.one(1), reply.one(2)
        state = unpack_state(over.key, over.value) if over else state
        departure = Departure.unpack(gone.key, gone.value) if gone else None
        if departure is not None and departure.incarnation == me.incarnation:
            return Standing(state, True, departed=departure)
        if member is None or member.create != me.token:
            return Standing(state)
        mine = Registration.unpack(member.key, member.value)
        return Standing(state, True, bool(mine.finished), bool(mine.attached))
    except StoreError as error:
        logger.warning("how %s stands could not be read: %s", me.task, error)
        return Standing(state)


def finish(member: Member, now: Standing) -> Outcome:
    """The command has ended with 0: the task is done, unless the command has said otherwise."""
    if now.departed is not None:
        code = exits.passed_on(now.departed.exit_code) or 1
        return _departed(member, now.departed, code if now.departed.kind == "crashed" else 0)
    try:
        member.finish()
    except PsBarrierError as error:
        return Outcome.of(error)
    return Outcome(0, "finished")


def crash(member: Member, status: int, now: Standing) -> Outcome:
    """The command has ended with another code, or by a signal that we did not send."""
    task, code = member.task, shell_code(status)
    passed = exits.passed_on(code)
    end = f"its command {describe(status)} at {clock_time(time.time())}"
    if passed != code:
        end += f" (passed on as {passed}, for psbarrier itself means something by {code})"
    if now.finished:
        return Outcome(passed, "finished", f"{task} had finished, and then {end}")
    if now.departed is not None:
        return _departed(member, now.departed, passed)
    if now.state.over and now.state.by != str(task):
        return over(member, now.state)
    _tell(member, "crash", lambda: member.crash(end, passed))
    return Outcome(passed, "crashed", f"{task} crashed: {end}")


def _departed(member: Member, departure: Departure, code: int) -> Outcome:
    """The command has reported its own end."""
    return Outcome(code, departure.kind, f"{member.task} {departure.kind}: {departure.reason}")


def over(member: Member, state: JobState) -> Outcome:
    """The job has ended, and with it a task that had not finished."""
    error = state.error(member.job)
    said = str(error) if state.phase == "failed" else f"job {member.job!r} has succeeded"
    return Outcome(exits.code_of(error), "over", f"{member.task} ends, for {said}")


def leave(member: Member, number: int, now: Standing) -> Outcome:
    """Somebody asked the task to end.

    A command that writes a last checkpoint then and exits with 0 is not done: unless it has said so itself, its next
    incarnation goes on.
    """
    name = signal.Signals(number).name
    if now.finished:
        return Outcome(0, "finished")
    _tell(member, "leaving", lambda: member.leave(f"ended by {name} at {clock_time(time.time())}"))
    return Outcome(128 + number, "left", f"{member.task} was ended by {name}")


def refuse(member: Member, error: PsBarrierError) -> Outcome:
    """The command cannot be started, now or ever: nobody needs to wait for this task."""
    _tell(member, "end", lambda: member.fail(str(error), exits.USAGE))
    return Outcome.of(error)


def give_up(member: Member, error: PsBarrierError) -> Outcome:
    """The task cannot be started or held; another try may go better."""
    _tell(member, "leaving", lambda: member.leave(f"{type(error).__name__} at {clock_time(time.time())}"))
    return Outcome.of(error)


def _tell(member: Member, what: str, report: Callable[[], object]) -> None:
    try:
        report()
    except PsBarrierError as error:
        logger.warning("the %s of %s could not be reported: %s", what, member.task, error)
