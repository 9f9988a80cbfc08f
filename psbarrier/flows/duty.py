"""The leader's duty: seal the spec, publish who is gone, give up who stays away, keep the run's lease."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from psbarrier.errors import LeaseNotFoundError, MalformedValueError, StoreError, StoreFullError, StoreUnavailableError
from psbarrier.flows.assessment import Assessment, Assessor
from psbarrier.flows.complaints import Complaints
from psbarrier.flows.effects import (
    Apply,
    Await,
    Flow,
    Follow,
    Keep,
    Pause,
    Silence,
    Unfollow,
    decide,
    require_held,
)
from psbarrier.flows.ripening import Ripening
from psbarrier.policy import MIN_RETENTION
from psbarrier.protocol.records import Departure, Gone, Loss, Seal, pack_spec, pack_state, unpack_spec
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.transactions import decree, give_up, resign, whole
from psbarrier.protocol.views import ControlView, Roster
from psbarrier.spec import ClusterSpec, MemberSpec, Task
from psbarrier.state import JobState
from psbarrier.store.base import KV, Delete, Op, Range, Txn, TxnReply
from psbarrier.times import clock_time

SPACING = 0.25
"""Seconds between two writes of `gone`, so that many losses at once cost few messages."""
ABSENT_SPACING = 2.0
"""Seconds between two writes of who is not there yet, before the first seal."""
SPACING_PER_TASK = 5e-3
"""Seconds between two such lists, for each task of the job, that tell of nobody who is lost: each is told to all."""
NAMED = 32
"""How many of the absent are named."""
NAMED_MALFORMED = 5
"""How many registrations that cannot be read are named at once."""
REST_PER_TASK = 100e-6
"""Seconds of rest for each task of the job after one look at all of them, while they come; a fifth of that later."""
LONGEST_REST = 1.0
"""Seconds of rest at most; once there is a spec, `SPACING`."""
_ENDED = (-2, -2)


class Duty:
    """One term of leadership."""

    def __init__(
        self,
        me: Standing,
        view: ControlView,
        clock: Callable[[], float],
        wall: Callable[[], float],
        certain: Callable[[], bool],
        complaints: Complaints,
    ) -> None:
        self.me, self.view, self.clock, self.wall, self.certain = me, view, clock, wall, certain
        self.complaints = complaints
        self.roster = Roster(me.keys)
        self.term = view.leader_create
        self.vanished = view.vanished
        self.replicas, self.policy = me.config.replicas, me.config.policy
        self.assessor, self.ripening = Assessor(self.replicas), Ripening(self.policy)
        self.ripe = math.inf
        self.short: frozenset[str] = frozenset()
        self.spec: ClusterSpec | None = None
        self.assessment = Assessment({}, frozenset(), ())
        self.known: dict[Task, str] = {}
        self.away: dict[Task, tuple[str, float]] = {}
        self.reasons: dict[Task, Loss] = {}
        self.complained: set[str] = set()
        self.began = self.answered = clock()
        self.written = -math.inf

    def run(self) -> Flow[None]:
        """Do the duty until the leadership or the job is over."""
        retention = max(self.policy.retention, MIN_RETENTION, 4 * self.me.ttl)
        yield Keep(self.me.run_lease, min(retention / 3, 60.0))
        try:
            serving = True
            while serving:
                try:
                    yield from self._serve()
                    serving = False
                except StoreUnavailableError:
                    serving = yield from self._prove()
                except (MalformedValueError, StoreFullError) as error:
                    yield from self._endure(error)
        except LeaseNotFoundError:
            pass  # ours or the run's is gone; the heartbeat finds out which
        yield from self._stand_down()

    def _endure(self, error: StoreError) -> Flow[None]:
        """Something keeps everybody from leading; to resign would help nobody, and a full etcd would refuse that."""
        self.answered = self.clock()
        text = f"{self.me.task} cannot lead job {self.me.job!r} now, and will try again: {error}"
        yield from self.complaints.tell(text)
        yield Await(self._over_or_deposed, self.clock() + self.me.ttl / 3)

    def _over_or_deposed(self) -> bool | None:
        try:
            return True if self._look(None) == _ENDED else None
        except MalformedValueError:
            return None

    def retire(self, patience: float = 0.0) -> Flow[None]:
        """Give the leadership up; if even that has failed for `patience` seconds, our lease must end, for that frees it."""
        try:
            yield Apply(resign(self.me, self.term), self.clock() + self.me.ttl / 3)
        except StoreError:
            if self.clock() >= self.answered + patience:
                yield Silence()
        yield from self._stand_down()

    def _stand_down(self) -> Flow[None]:
        yield Unfollow(self.roster)
        yield Keep(0, 0.0)

    def _serve(self) -> Flow[None]:
        if self._over_or_deposed():
            return
        yield Follow(self.roster, self.clock() + self.me.ttl)
        yield from self._prepare()
        changes = (-1, -1)
        while True:
            look: tuple[int, int] | None = yield Await(partial(self._look, changes), self._alarm())
            if look == _ENDED:
                return
            if look is None and not (yield from self._prove()):
                return
            changes = look or (-1, -1)
            yield from self._act()
            if (rest := self._rest()) > 0.005:
                # Thousands who join or finish one by one are looked at together.
                yield Await(partial(self._look, None), self.clock() + rest)

    def _rest(self) -> float:
        """Seconds until the next look. Before the first spec nobody acts on a loss, and haste is of no use."""
        calm = self.replicas.size * REST_PER_TASK
        return min(LONGEST_REST, calm) if self.spec is None else min(SPACING, calm / 5)

    def _decide(self, txn: Txn) -> Flow[TxnReply]:
        reply = yield from decide(self.me, txn, self.clock, self.clock() + self.me.ttl / 3)
        self.answered = self.clock()
        return reply

    # -- looking

    def _prepare(self) -> Flow[None]:
        """Read what a new leader must know: the registrations, and what its predecessor had sealed."""
        reply = yield from self._decide(Txn(then=(whole(self.roster.prefix),)))
        known = self.view.seal
        if known is not None:
            key = self.me.keys.body(known[0].epoch)
            reply = yield from self._decide(Txn(then=(Range(key),)))
            body = reply.one(0)
            self.spec = unpack_spec(key, body.value) if body else None
        self.reasons = dict(self.view.gone.lost)
        self.known = {task: loss.incarnation for task, loss in self.view.gone.lost.items()}

    def _look(self, seen: tuple[int, int] | None) -> tuple[int, int] | None:
        if self.view.state.over or (self.view.leader_create, self.view.vanished) != (self.term, self.vanished):
            return _ENDED
        changes = (self.roster.changes, self.view.changes)
        return changes if seen is not None and changes != seen else None

    def _alarm(self) -> float:
        """When to look again although nothing has changed: a grace that ends, a write that is due, a sign of life."""
        times = [self.answered + self.me.ttl, self.ripe]
        times += [since + self.policy.grace(task.role) for task, (_, since) in self._awaited()]
        if self._stale():
            times.append(self._due())
        return max(min(times), self.clock() + 0.01)

    def _prove(self) -> Flow[bool]:
        """Show that etcd still answers our reads; False when the leadership had to be given up.

        Keep-alives prove nothing about that: they pass with rights withdrawn and a store that cannot write. So a leader
        who cannot read for two TTLs, while its lease surely lives, lets another lead.
        """
        if self.clock() < self.answered + self.me.ttl:
            return True
        try:
            yield Apply(Txn(then=(Range(self.me.keys.leader),)), self.clock() + self.me.ttl / 3)
            self.answered = self.clock()
            return True
        except StoreUnavailableError:
            if not self.certain():
                self.answered = self.clock()  # all of etcd is out of reach, for which nobody is to blame
            elif self.clock() >= self.answered + 2 * self.me.ttl:
                yield from self.retire()
                return False
        yield Pause(3, self.clock() + self.me.ttl)
        return True

    # -- acting

    def _act(self) -> Flow[None]:
        registrations = self.roster.registrations
        yield from self._complain()
        view = self.assessor.assess(registrations, self.spec, self.known)
        self.known.update({task: registration.incarnation for task, registration in registrations.items()})
        yield from self._learn_reasons(view)
        for task in [task for task in self.away if task not in view.lost]:
            del self.away[task]
        for task, incarnation in view.lost.items():
            if self.away.get(task, ("",))[0] != incarnation:
                self.away[task] = (incarnation, self.clock())
        self.assessment = view
        self.short = (
            frozenset(task.role for task in self.replicas.short_of(registrations)) if self.away else frozenset()
        )
        self.ripe = self.ripening.at(view, self.clock(), first=self.spec is None)
        if self.ripe <= self.clock():
            yield from self._write(view.members)
        elif self._stale() and self.clock() >= self._due():
            yield from self._write(None)
        yield from self._conclude()
        yield from self._give_up()

    def _complain(self) -> Flow[None]:
        new = {key: why for key, why in self.roster.malformed.items() if key not in self.complained}
        for why in list(new.values())[:NAMED_MALFORMED]:
            yield from self.complaints.tell(f"a registration counts as absent: {why}")
        if len(new) > NAMED_MALFORMED:
            more = len(new) - NAMED_MALFORMED
            yield from self.complaints.tell(f"{more} more keys below {self.roster.prefix!r} are no registrations")
        self.complained.update(new)

    def _gone(self) -> Gone:
        """What the list of the gone should say."""
        view = self.assessment
        lost = {task: self.reasons[task] for task in view.lost if task in self.reasons}
        absent = view.absent if self.spec is None and view.members is None else ()
        return Gone(lost, view.finished, absent[:NAMED], len(absent))

    def _stale(self) -> bool:
        """Whether the published list differs from the facts."""
        return self.view.gone_is_malformed or self._gone() != self.view.gone

    def _due(self) -> float:
        """When the list may be written. Nobody acts on who is not there yet, so that is told less often."""
        before, after = self.view.gone, self._gone()
        if before.lost != after.lost:
            return self.written + SPACING
        calm = self.replicas.size * SPACING_PER_TASK
        if before.finished != after.finished:
            return self.written + max(SPACING, calm)
        return max(self.began, self.written) + max(ABSENT_SPACING, calm)

    def _learn_reasons(self, view: Assessment) -> Flow[None]:
        """Find out, once for each loss, whether the task had said why it goes."""
        new = [t for t, inc in view.lost.items() if t not in self.reasons or self.reasons[t].incarnation != inc]
        for task in [task for task in self.reasons if task not in view.lost]:
            del self.reasons[task]
        for start in range(0, len(new), 100):
            batch = new[start : start + 100]
            reads = tuple(Range(self.me.keys.departure(task)) for task in batch)
            reply = yield from self._decide(Txn(then=reads))
            for index, task in enumerate(batch):
                kv = reply.one(index)
                departure = yield from self._departure(kv)
                incarnation = view.lost[task]
                if departure is not None and departure.incarnation == incarnation:
                    when, why = (
                        departure.since,
                        f"{departure.kind} at {clock_time(departure.since)}: {departure.reason}",
                    )
                else:
                    when = self.wall()
                    unreadable = self.roster.malformed.get(self.me.keys.member(task))
                    why = (
                        f"unreadable in etcd: {unreadable}"
                        if unreadable
                        else f"lost at {clock_time(when)}: its lease ran out or was revoked"
                    )
                self.reasons[task] = Loss(incarnation, when, why)

    def _departure(self, kv: KV | None) -> Flow[Departure | None]:
        """What a task has said of its going; nothing that can be read is as good as nothing."""
        try:
            return Departure.unpack(kv.key, kv.value) if kv else None
        except MalformedValueError as error:
            yield from self.complaints.tell(f"why a task went away is not known: {error}")
            return None

    def _write(self, members: tuple[MemberSpec, ...] | None) -> Flow[None]:
        """Publish the list of the gone, and with it, in one transaction, a new epoch of these `members`, if any."""
        keys, known = self.me.keys, self.view.seal
        seen = {keys.gone: self.view.mod(keys.gone), keys.cluster: known[1] if known else 0}
        # An epoch goes on without those who were lost in the one before.
        gone = self._gone() if members is None else Gone(finished=self.assessment.finished)
        writes = {keys.gone: gone.pack()} if self.view.gone_is_malformed or gone != self.view.gone else {}
        extra: tuple[Op, ...] = ()
        spec = self.spec
        if members is not None:
            epoch = (known[0].epoch if known else 0) + 1
            spec = ClusterSpec(self.me.job, self.me.run, epoch, members)
            body = pack_spec(spec)
            tasks = [member.task for member in members] if self.replicas.elastic() else None
            writes |= {keys.cluster: Seal.of(epoch, body, tasks).pack(), keys.body(epoch): body}
            # The epoch before stays readable for those who have just been told of it.
            extra = (Delete(*keys.bodies_before(epoch - 1)),) if epoch > 2 else ()
        reply = yield from self._decide(decree(self.me, self.term, seen, writes, extra))
        self.written = self.clock()
        if reply.succeeded:
            self.spec, self.ripe = spec, math.inf
        else:
            require_held(self.me, reply, 1)
            yield from self._prepare()

    def _conclude(self) -> Flow[None]:
        """End a job whose newest epoch names nobody who has yet to finish.

        Who finishes last does that, as far as the epoch says who is the last; but one that was sealed since may have gone
        on without the others.
        """
        roles = self.policy.deciding_roles(self.replicas)
        if self.spec is None or not self.replicas.elastic(roles) or self.view.seal is None:
            return
        if all(member.task in self.assessment.finished for member in self.spec.members if member.task.role in roles):
            success = {self.me.keys.state: pack_state(JobState("succeeded", since=self.wall()))}
            seen = {self.me.keys.cluster: self.view.seal[1]}
            reply = yield from self._decide(decree(self.me, self.term, seen, success))
            if not reply.succeeded:
                require_held(self.me, reply, 1)

    def _awaited(self) -> list[tuple[Task, tuple[str, float]]]:
        """Those away without whom the job cannot go on: all of a fixed role, and those of an elastic one while it has
        fewer than its least."""
        return [(task, since) for task, since in self.away.items() if task.role in self.short]

    def _give_up(self) -> Flow[None]:
        """Fail the job for a task that stayed away longer than its grace."""
        for task, (_, since) in self._awaited():
            grace = self.policy.grace(task.role)
            if self.spec is None or self.clock() < since + grace or not self.certain():
                continue
            why = self.reasons[task].why if task in self.reasons else "lost"
            reason = f"{task} was {why}, and did not come back within {grace:g} s"
            others = None
            if task.role in self.replicas.elastic_roles:
                reason += f", and fewer than {self.replicas.minimum(task.role)} of its role are left"
                others = self.roster.complete
            seen = self.roster.mod(self.me.keys.member(task))
            state = JobState("failed", by=str(task), reason=reason, exit_code=1, since=self.wall())
            reply = yield from self._decide(give_up(self.me, self.term, task, seen, state, others))
            if reply.succeeded:
                return
            require_held(self.me, reply, 1)
            # Refused: the task is back, the job is over, or another leads; the views show which.
            self.away[task] = (self.away[task][0], self.clock())
