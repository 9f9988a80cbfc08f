"""The barrier: what one `wait()` does, and how a barrier is broken and reset.

A generation is open until it is released or broken, and it is one of the two for everybody: both are one write to the
same key, which compares how that key stood before. Within a generation a *round* starts anew when a task that had
arrived comes back as another incarnation, for the old arrival must not count; those who wait arrive again by themselves.
An *era* starts when a broken barrier is reset.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NoReturn

from attrs import evolve, frozen

from psbarrier.errors import (
    BarrierBrokenError,
    BarrierOutcomeUnknownError,
    BarrierTimeoutError,
    InvalidArgumentError,
    MalformedValueError,
    PsBarrierError,
    StoreFullError,
    StoreUnavailableError,
)
from psbarrier.flows.effects import (
    Await,
    Flow,
    Progress,
    Tell,
    confirm,
    decide,
    describe_missing,
    require_held,
)
from psbarrier.flows.gate import GRACE, registered_tasks
from psbarrier.flows.opening import opening
from psbarrier.flows.parties import missing_parties
from psbarrier.flows.patience import Patience
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord, Broken
from psbarrier.protocol.keys import Attempt
from psbarrier.protocol.party import Party
from psbarrier.protocol.views import ControlView, Seen
from psbarrier.spec import Task
from psbarrier.store.base import KV, Range, Txn, TxnReply

_NOWHERE = Attempt()

PAST = -1
"""What `wait()` returns for a generation that was released before it came."""

ALL_ASK = 100
"""So many parties may each read all arrivals every ten seconds. A thousand that do keep two cores busy for longer than
that, and so what they wait for from coming."""

ANNOUNCEMENT = 0.5
"""How many seconds one who learns of a break waits for the names of the missing, which come in a second write."""


@frozen
class Verdict:
    """What a waiter concludes from one view."""

    kind: Literal["released", "broken", "over", "again", "gone", "vanished"]
    seen: Seen
    task: Task | None = None
    reason: str = ""


class Meeting:
    """One `wait()` call of one party."""

    def __init__(
        self,
        party: Party,
        view: ControlView,
        call: int,
        on_loss: str,
        clock: Callable[[], float],
        wall: Callable[[], float],
        until: float | None,
    ) -> None:
        self.party, self.view, self.on_loss = party, view, on_loss
        self.me, self.clock = party.me, clock
        self.arrival = Arrival(self.me.incarnation, call, wall())
        self.patience = Patience(clock, until)
        self.limit = math.inf if until is None else until + GRACE
        self.at = _NOWHERE
        self.seen = 0
        self.order = PAST
        self.vanished = view.vanished
        self.parties: frozenset[Task] | None = None  # where a role is elastic, once the generation counts us
        self.present: set[Task] = set()
        self.arrived = False

    def run(self, generation: int | None) -> Flow[int]:
        """Arrive, and wait for the others; answers with the order of arrival, or PAST.

        Raises BarrierBrokenError, BarrierTimeoutError, BarrierOutcomeUnknownError, JobOverError, JobFailedError.
        """
        try:
            if (yield from self._start(generation)):
                return (yield from self._meet())
            return PAST
        except (StoreUnavailableError, StoreFullError) as error:
            if isinstance(error, StoreFullError) and not self.arrived:
                raise  # nothing was written, and nothing is open
            raise BarrierOutcomeUnknownError(
                f"{self._name()} was neither released nor broken when {self.me.task}'s deadline passed, as far as it can "
                f"know: {error} When etcd is back, wait(generation={self.at.generation}) finds out",
                barrier=self.party.name,
                generation=self.at.generation,
            ) from error

    def _name(self) -> str:
        return f"barrier {self.party.name!r} of job {self.me.job!r}, generation {self.at.generation},"

    def _decide(self, txn: Txn) -> Flow[TxnReply]:
        """Beyond the deadline there is only as much time as it takes to end cleanly."""
        return decide(self.me, txn, self.clock, self.limit)

    # -- starting

    def _start(self, generation: int | None) -> Flow[bool]:
        """Take the barrier as it stands; False when `generation` is over already."""
        seen = self.view.barrier(self.party.name)
        if generation is not None and generation > seen.record.attempt.generation:
            # Somebody told our caller more than our watch has delivered so far.
            yield from self._decide(Txn(then=(Range(self.party.key),)))
            seen = self.view.barrier(self.party.name)
            if generation > seen.record.attempt.generation:
                raise InvalidArgumentError(
                    f"generation {generation} of barrier {self.party.name!r} cannot be waited for yet: it stands at "
                    f"{seen.record.attempt.generation}"
                )
        if seen.record.broken is not None:
            # Somebody may have told our caller of a reset that our watch has not delivered yet.
            yield from self._decide(Txn(then=(Range(self.party.key),)))
            seen = self.view.barrier(self.party.name)
        if self.view.vanished:
            # This may be another run's barrier, which was founded where ours had gone.
            yield from confirm(self.me, self.clock, self.limit)
        self.at, self.seen = seen.record.attempt, seen.mod
        if generation is not None and self.at.generation > generation:
            return False
        if seen.record.broken is not None:
            yield from self._raise_broken(seen)
        return True

    # -- meeting

    def _meet(self) -> Flow[int]:
        here = False
        while True:
            if not here:
                if self.party.elastic and (yield from self._open()):
                    return PAST
                outcome = yield from self._arrive()
                if outcome is not None:
                    return outcome
                here = self.arrived = True
            verdict: Verdict | None = yield Await(self._judge, self.patience.next())
            if verdict is None:
                if self.patience.over():
                    yield from self._break("timeout")
                elif self.patience.due():
                    yield from self._tell()
            elif verdict.kind == "released":
                if verdict.seen.record.last != self.at:
                    # A successor of ours may have earned this release: we may believe it only while we are in office.
                    yield from confirm(self.me, self.clock, self.limit)
                return (yield from self._order())
            elif verdict.kind == "vanished":
                self.vanished = self.view.vanished
                yield from confirm(self.me, self.clock, self.limit)
            elif verdict.kind == "again":
                self.at, self.seen, here = verdict.seen.record.attempt, verdict.seen.mod, False
                self.order = PAST
            else:
                yield from self._stop(verdict)

    def _open(self) -> Flow[bool]:
        """Wait until the generation counts us, or is over; true when it was over without us.

        A member that has just joined must not go on to the next one by itself: its caller has a step to do before that.
        """
        while True:
            seen = yield from opening(self.party, self.view, self.clock, self.limit, self.patience)
            if seen.record.attempt.generation > self.at.generation:
                return True
            if self.arrived and seen.record.attempt.era > self.at.era:
                # What we had arrived at was broken, and reset before we looked: the others were told so, and so are we.
                yield from self._raise_broken(seen)
            self.at, self.seen, self.parties = seen.record.attempt, seen.mod, seen.record.parties
            if seen.record.broken is not None:
                yield from self._raise_broken(seen)
            if not self.party.superseded(self.view):
                return False
            yield from self._break("epoch")

    def _stop(self, verdict: Verdict) -> Flow[None]:
        """The verdict is that this generation will not be released; raises, or finds out that it may be after all."""
        if verdict.kind == "broken":
            yield from self._raise_broken(verdict.seen)
        elif verdict.kind == "over":
            raise self.view.state.error(self.me.job)
        else:
            yield from self._break(verdict.reason, verdict.task)

    def _judge(self) -> Verdict | None:
        """The order of these matters: what was released stays released, whatever happened to the job since.

        That the job is over we may know from a reply to the leader in our own process, before the watch has delivered
        the release that came first; so it counts only once nothing is missing.
        """
        seen = self.view.barrier(self.party.name)
        at = seen.record.attempt
        if self.view.vanished != self.vanished:
            return Verdict("vanished", seen)  # this may be another run's barrier, which was founded where ours had gone
        if at.generation > self.at.generation:
            return Verdict("released", seen)
        if at.era > self.at.era or seen.record.broken is not None:
            return Verdict("broken", seen)
        if self.view.ended:
            return Verdict("over", seen)
        if at.round > self.at.round:
            return Verdict("again", seen)
        return self._gone(seen)

    def _gone(self, seen: Seen) -> Verdict | None:
        """A party that will not come: it has finished, or it is lost and we were told not to wait for such, or the cluster
        has gone on without it."""
        gone = self.view.gone
        if self.party.superseded(self.view):
            return Verdict("gone", seen, None, "epoch")
        for task in gone.finished:
            if self._awaits(task):
                return Verdict("gone", seen, task, "finished")
        if self.on_loss == "break":
            for task in gone.lost:
                if self._awaits(task):
                    return Verdict("gone", seen, task, "lost")
        return self._left_out(seen, self.parties) if self.parties else None

    def _left_out(self, seen: Seen, parties: frozenset[Task]) -> Verdict | None:
        """A party without which a later epoch goes on. (An older one, which our watch may still be at, says nothing.)"""
        seal = self.view.seal
        if seal is not None and seal[0].tasks is not None and seal[0].epoch > seen.record.epoch:
            for task in sorted(parties - seal[0].tasks - self.present):
                return Verdict("gone", seen, task, "out")
        return None

    def _awaits(self, task: Task) -> bool:
        """Whether `task` is a party, and not known to have arrived."""
        counts = task.role in self.party.definition.roles if self.parties is None else task in self.parties
        return counts and task not in self.present

    def _arrive(self) -> Flow[int | None]:
        """Arrive at the attempt that is open; None when we have and it is not released yet, else the outcome."""
        while True:
            released = self.party.released(self.at)
            value = released.pack()
            self.view.expect(self.party.key, value, released)
            reply = yield from self._decide(self.party.arrive(self.at, self.seen, self.arrival, self._count(), value))
            if reply.succeeded:
                tick = reply.one(2)
                self.order = tick.version - 1 if tick else PAST
                return self.order if reply.nested(3).succeeded else None
            require_held(self.me, reply, 3)
            own = reply.one(1)
            seen = self._seen(reply)
            record = seen.record
            if own is not None and self._is_mine(own):
                return None  # a try whose reply was lost had been applied; the view says what became of it
            if record.attempt.generation > self.at.generation:
                return PAST  # only with a former incarnation of ours among the arrivals can it be over without us
            if record.attempt.era > self.at.era or record.broken is not None:
                yield from self._raise_broken(seen)
            if self.view.state.over:
                raise self.view.state.error(self.me.job)
            if seen.mod != self.seen:
                self.at, self.seen = record.attempt, seen.mod
            elif own is not None:
                yield from self._next_round()

    def _is_mine(self, arrival: KV) -> bool:
        try:
            return Arrival.unpack(arrival.key, arrival.value).same_call(self.arrival)
        except MalformedValueError:
            return False  # in the next round there is none

    def _next_round(self) -> Flow[None]:
        """An arrival of another incarnation or another call stands in our name: nobody's arrival of this round counts."""
        after = self._record(evolve(self.at, round=self.at.round + 1), None)
        reply = yield from self._decide(self.party.change(self.seen, after))
        if not reply.succeeded:
            require_held(self.me, reply, 1)
        seen = self.view.barrier(self.party.name)
        now = seen.record.attempt
        if (now.generation, now.era) == (self.at.generation, self.at.era) and not seen.record.broken:
            self.at, self.seen = now, seen.mod
        # Else the next try to arrive is refused, and reads what the barrier has become.

    def _order(self) -> Flow[int]:
        """Our place in the order of arrival; read from the arrivals where the reply that told it was lost."""
        if self.order == PAST:
            reply = yield from self._decide(Txn(then=(self.party.arrivals(self.at), *self.me.witnesses)))
            require_held(self.me, reply, 1)
            creates = {kv.key: kv.create for kv in reply.many(0)}
            mine = creates.get(self.party.arrival_key(self.at))
            if mine is not None:
                self.order = sum(create < mine for create in creates.values())
        return self.order

    def _count(self) -> int:
        """How many parties the generation has."""
        return self.party.definition.parties if self.parties is None else len(self.parties)

    def _record(self, at: Attempt, broken: Broken | None) -> BarrierRecord:
        """What the barrier is to become, in the same generation."""
        before = self.view.barrier(self.party.name).record
        return evolve(before, attempt=at, broken=broken)

    def _seen(self, reply: TxnReply) -> Seen:
        kv = reply.one(0)
        return Seen(BarrierRecord.unpack(kv.key, kv.value), kv.mod) if kv else Seen(BarrierRecord(), 0)

    # -- breaking

    def _break(self, reason: str, gone: Task | None = None) -> Flow[None]:
        """Break the generation, and raise; returns when something else became of it, which the view then shows."""
        unless = self.party.arrival_key(self.at, gone) if gone is not None else None
        by = str(gone) if gone is not None else str(self.me.task)
        broken = self._record(self.at, Broken(by, reason))
        arrivals = self.party.arrivals(self.at)
        reply = yield from self._decide(self.party.change(self.seen, broken, unless=unless, also=(arrivals,)))
        mod = reply.revision
        if not reply.succeeded:
            require_held(self.me, reply, 1)
            seen = self._seen(reply)
            if seen.record != broken:
                if gone is not None and reply.one(3) is not None:
                    self.present.add(gone)  # it had arrived before it went: its arrival counts
                return
            # A try whose reply was lost had been applied; or another party broke it for the same reason, and then it
            # does no harm that both add the names.
            mod = seen.mod
        yield from self._announce(broken, reply, mod)

    def _announce(self, broken: BarrierRecord, reply: TxnReply, mod: int) -> Flow[NoReturn]:
        """Add who was missing, and raise. A second write, for only the first one knows exactly who had arrived."""
        by, reason = (broken.broken.by, broken.broken.reason) if broken.broken else ("", "")
        error = self._error(broken, timeout=reason == "timeout")
        try:
            if not reply.succeeded:
                reply = yield from self._decide(Txn(then=(Range(self.party.key), self.party.arrivals(self.at))))
            missing = missing_parties(self.party, self.view, self._arrived(reply, 1))
            named = evolve(broken, broken=Broken(by, reason, missing))
            error = self._error(named, timeout=reason == "timeout")
            # If this is refused, somebody has already reset the barrier, and needs no names any more.
            yield from self._decide(self.party.change(mod, named))
        except StoreUnavailableError as unavailable:
            raise error from unavailable  # without a word to the others, but that it is broken is certain
        raise error

    def _arrived(self, reply: TxnReply, index: int) -> set[Task]:
        return registered_tasks(self.me.keys.arrivals(self.party.name, self.at), reply.many(index))

    def _raise_broken(self, seen: Seen) -> Flow[None]:
        """Raise for a break that we learnt of, with the names of the missing if they come in time."""
        record = seen.record

        def newer() -> Seen | None:
            now = self.view.barrier(self.party.name)
            return now if now.mod > seen.mod else None

        if record.broken is not None and record.broken.missing is None:
            later: Seen | None = yield Await(newer, min(self.clock() + ANNOUNCEMENT, self.limit))
            if later is not None and later.record.broken is not None and later.record.attempt == record.attempt:
                record = later.record
        raise self._error(record, timeout=False)

    def _error(self, record: BarrierRecord, *, timeout: bool) -> BarrierBrokenError:
        broken = record.broken or Broken("another member", "reset")
        missing = dict(broken.missing or {})
        why = {
            "timeout": f"{broken.by} waited until its deadline",
            "abort": f"{broken.by} aborted it",
            "interrupt": f"{broken.by} was interrupted in it",
            "lost": f"its party {broken.by} is lost",
            "finished": f"its party {broken.by} has finished and will not come",
            "epoch": "a later epoch has been sealed",
            "out": f"the cluster has gone on without its party {broken.by}",
        }.get(broken.reason, f"it was broken and has been {broken.reason}")
        text = f"{self._name()} is broken for all its parties: {why}"
        if missing:
            text += f"; missing: {describe_missing(missing)}"
        kind = BarrierTimeoutError if timeout else BarrierBrokenError
        return kind(
            f"{text}. Call reset() when all may try again",
            barrier=self.party.name,
            generation=self.at.generation,
            by=broken.by,
            reason=broken.reason,
            missing=missing,
        )

    def interrupt(self) -> Flow[None]:
        """Break the generation because the caller's thread was interrupted: it will not come back to it."""
        if self.party.elastic and self.parties is None:
            return  # it does not count us, so nobody waits for us
        try:
            yield from self._break("interrupt")
        except PsBarrierError:
            return  # broken as wanted, or out of our hands; what interrupted the caller matters more

    # -- saying so

    def _tell(self) -> Flow[None]:
        """Say who is missing. Where there are many parties, only the one that came first asks."""
        parties = self._count()
        there, missing = max(self.order + 1, 1), {}
        if parties <= ALL_ASK or self.order == 0:
            try:
                arrivals = Txn(then=(self.party.arrivals(self.at),))
                reply = yield from decide(self.me, arrivals, self.clock, self.clock() + GRACE)
                missing = missing_parties(self.party, self.view, self._arrived(reply, 0))
                there = len(reply.many(0))
            except StoreUnavailableError:
                missing = {"etcd": "does not answer"}
        what = f"{self.me.task} at {self._name().rstrip(',')}"
        yield Tell(Progress(what, there, parties, missing, self.patience.waited(), self.patience.left()))
