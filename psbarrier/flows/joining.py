"""Joining: find or found the run, take a slot in it, and say clearly why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from attrs import evolve, frozen

from psbarrier.errors import (
    LeaseNotFoundError,
    SlotTakenError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from psbarrier.flows.effects import Await, Change, Flow, Follow, Grant, Pause, Progress, Revoke, Tell, Unfollow, settle
from psbarrier.flows.gate import GRACE
from psbarrier.flows.patience import Patience
from psbarrier.flows.refusals import refuse_finished, require_same, taken
from psbarrier.policy import MIN_RETENTION
from psbarrier.protocol.keys import JobKeys, RunKeys, below, is_index
from psbarrier.protocol.records import Config, Current, Registration, unpack_state
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.transactions import Applicant, Founding, draw_slot, found, join
from psbarrier.protocol.views import ControlView
from psbarrier.spec import Task
from psbarrier.store.base import KV, Range, Txn, TxnReply

DEFERRAL = 10.0
"""Seconds that a process leaves the founding to another, once; a healthy etcd takes milliseconds, and a busy one a few
seconds where thousands come at once."""


@frozen
class Wanted:
    """What a process asks for. `index` None: the lowest free slot of the role; `run` None: the current run."""

    job: JobKeys
    run: str | None
    role: str
    index: int | None
    config: Config
    registration: Registration
    meta: Mapping[str, Any]
    takeover: Literal["wait", "force"] = "wait"


@frozen
class Joined:
    """A slot that was taken, and the view of its run, which is being followed."""

    standing: Standing
    view: ControlView
    registration: Registration


@frozen
class Found:
    """The run to join, and, when it does not exist yet, what creating it replaces."""

    run: str
    founding: Founding | None


def joining(want: Wanted, clock: Callable[[], float], wall: Callable[[], float], until: float) -> Flow[Joined]:
    """Join as `want` says, by `until`.

    Raises SlotTakenError when somebody holds the slot until then, AlreadyFinishedError, JobMismatchError, JobOverError,
    JobFailedError, InvalidArgumentError, StoreUnavailableError or StoreRefusedError. Nothing is left in etcd then.
    """
    flow = _Joining(want, clock, wall, until)
    while True:
        yield from flow.enlist()
        try:
            return (yield from flow.run())
        except LeaseNotFoundError:
            # Ours ran out while we waited, during an outage for example: nothing can be bound to it any more.
            if clock() >= until:
                raise
        except Exception as error:
            yield Revoke(flow.lease, until)
            if isinstance(error, StoreUnavailableError) and flow.waits_for is not None:
                # etcd failed to say at the very end what it had said before, and that is what the caller must know.
                raise flow.taken_by(*flow.waits_for, "when etcd last answered") from error
            raise


class _Joining:
    """One process that joins: its own state, so that the steps stay short."""

    def __init__(self, want: Wanted, clock: Callable[[], float], wall: Callable[[], float], until: float) -> None:
        self.want, self.clock, self.wall, self.until = want, clock, wall, until
        self.limit = until + GRACE  # a healthy etcd still says at the deadline who holds the slot
        self.lease = 0
        self.leases = 0
        self.registration = want.registration
        self.view: ControlView | None = None
        self.index = want.index
        self.deferred = False
        self.patience = Patience(clock, until)
        self.waits_for: tuple[Task, Registration] | None = None

    def enlist(self) -> Flow[None]:
        """A new lease, and a new name for what is bound to it: a spec may have been sealed with a registration under the
        one before, and must not be taken for ours."""
        if self.lease:
            yield Revoke(self.lease, self.until)
        self.lease = yield Grant(self.want.registration.ttl, True, self.until)
        self.leases += 1
        if self.leases > 1:
            incarnation = f"{self.want.registration.incarnation}-{self.leases}"
            self.registration = evolve(self.want.registration, incarnation=incarnation)

    def run(self) -> Flow[Joined]:
        attempt = 0
        while True:
            target = yield from self._find()
            keys = self.want.job.run(target.run)
            yield from self._follow(keys)
            if target.founding is None:
                joined = yield from self._enter(target.run, keys)
            else:
                joined = yield from self._found(target.founding, keys)
            if joined is not None:
                return joined
            # Another process founds or ends the run at this moment.
            attempt += 1
            if self.clock() >= self.until:
                raise StoreUnavailableError(
                    f"{self.want.role} could not join job {self.want.job.job!r}: its runs came and went faster than "
                    "this process could join one; look for processes that end at once"
                )
            yield Pause(attempt, self.until)

    def _settle(self, txn: Txn) -> Flow[TxnReply]:
        return (yield from settle(txn, self.clock, self.limit))

    def _read(self, *ranges: Range) -> Flow[TxnReply]:
        return (yield from self._settle(Txn(then=ranges)))

    def _follow(self, keys: RunKeys) -> Flow[None]:
        if self.view is not None and self.view.keys == keys:
            return
        if self.view is not None:
            yield Unfollow(self.view)
        self.view = ControlView(keys)
        yield Follow(self.view, self.until)

    # -- which run

    def _find(self) -> Flow[Found]:
        """The run that is meant. A run without members or leader is abandoned: its last process has gone."""
        if self.want.run is not None:
            return Found(self.want.run, None)
        reply = yield from self._read(Range(self.want.job.current))
        current = reply.one(0)
        if current is None:
            return self._new(reply, 0)
        keys = self.want.job.run(Current.unpack(current.key, current.value).run)
        members = Range(*below(keys.members), limit=1, keys_only=True)
        reply = yield from self._read(Range(keys.state), Range(keys.config), Range(keys.leader), members)
        config = reply.one(1)
        if reply.one(0) is not None or config is None:
            return self._new(reply, current.mod)
        if reply.one(2) is None and not reply.many(3):
            return self._new(reply, current.mod, keys, config)
        return Found(Current.unpack(current.key, current.value).run, None)

    def _new(self, reply: TxnReply, mod: int, abandoned: RunKeys | None = None, config: KV | None = None) -> Found:
        run = f"r{reply.revision}"
        return Found(run, Founding(self.want.job, run, mod, abandoned, config, self.wall()))

    # -- a run that does not exist yet

    def _found(self, founding: Founding, keys: RunKeys) -> Flow[Joined | None]:
        """Create the run and join it; None when another process was faster."""
        # Kept: should the reply be lost, it is this slot that we may hold, and must look at.
        self.index = self.index or 0
        me = self._applicant(keys, self.index)
        retention = max(self.want.config.policy.retention, MIN_RETENTION, 4 * self.want.registration.ttl)
        run_lease: int = yield Grant(int(retention), False, self.limit)
        try:
            reply = yield from self._settle(found(me, founding, run_lease))
        except (LeaseNotFoundError, StoreRefusedError):
            # Nothing was written. (After a StoreUnavailableError nobody knows, and others may live on this lease.)
            yield Revoke(run_lease, self.until)
            raise
        if reply.succeeded:
            return self._joined(me, founding.run, reply)
        config = reply.one(0)
        if config is None or config.lease != run_lease:
            yield Revoke(run_lease, self.until)
            self.index = self.want.index
            return None
        # A try whose reply was lost had created the run; what became of our registration shows when we enter it.
        return (yield from self._enter(founding.run, keys))

    # -- a run that exists

    def _enter(self, run: str, keys: RunKeys) -> Flow[Joined | None]:
        """Take a slot in the run; None when which run is meant has to be found out again."""
        if self.index is None:
            self.index = yield from self._lowest(keys)
        while True:
            me = self._applicant(keys, self.index or 0)
            reply = yield from self._settle(join(me, claim=self.want.run is not None))
            config, member = reply.one(-4), reply.one(-3)
            if config is None:
                return (yield from self._refound(run, keys, me, reply))
            if member is not None and _is_mine(member, me):
                return self._joined(me, run, reply)
            state = next((kv for kv in reply.many(-1) if kv.key == keys.state), None)
            if state is not None:
                if self.want.run is None:
                    return None
                refuse_finished(self.want.job.job, me.task, member)
                raise unpack_state(state.key, state.value).error(self.want.job.job)
            require_same(self.want.job.job, self.want.config, config)
            if member is None:
                self.waits_for = None
                continue
            if self.want.index is not None:
                refuse_finished(self.want.job.job, me.task, member)
            yield from self._elsewhere(me, config, member, reply.revision)

    def _refound(self, run: str, keys: RunKeys, me: Applicant, reply: TxnReply) -> Flow[Joined | None]:
        """The run does not exist: found it if it is the one that was named, unless another process does."""
        if self.want.run is None:
            return None
        member = reply.one(-3)
        if member is not None and _is_mine(member, me):
            # A try whose reply was lost had registered us in the run before, which went since: nobody can found a run
            # over a registration, so ours has to go.
            yield from self.enlist()
        elif not (self.deferred or me.claimed(reply)):
            # A job's processes come at once. If all of them tried, each would make a lease for the run, and all but one
            # would have to end it again. The claim decides nothing: whatever becomes of it, a run is founded once.
            self.deferred = True
            yield Await(self._led, min(self.clock() + DEFERRAL, self.until))
            self.index = self.want.index
            return None
        return (yield from self._found(Founding(self.want.job, run, wall=self.wall()), keys))

    def _led(self) -> bool | None:
        """True once somebody leads the run, which begins in the moment when it is founded."""
        return True if self.view is not None and self.view.leader_create else None

    def _lowest(self, keys: RunKeys) -> Flow[int]:
        reply = yield from self._read(Range(*below(keys.role_members(self.want.role)), keys_only=True))
        free = self._free(reply.many(0), keys)
        return free[0] if free else 0

    def _free(self, taken: tuple[KV, ...], keys: RunKeys) -> list[int]:
        held = self._taken(taken, keys)
        return [index for index in range(self.want.config.replicas[self.want.role]) if index not in held]

    def _taken(self, taken: tuple[KV, ...], keys: RunKeys) -> dict[int, KV]:
        """The registrations of our role, by index."""
        names = ((kv.key.removeprefix(keys.role_members(self.want.role)), kv) for kv in taken)
        return {int(name): kv for name, kv in names if is_index(name)}

    def _elsewhere(self, me: Applicant, config: KV, member: KV, revision: int) -> Flow[None]:
        """The slot is held: take another one, wait until it is free, or free it."""
        if self.want.index is None:
            try:
                reply = yield from self._settle(draw_slot(me.keys, self.want.role, config))
            except LeaseNotFoundError:
                return  # the run went away in between; entering it again shows that
            tick = reply.one(1) if reply.succeeded else None
            if tick is None:
                return
            free = self._free(reply.many(2), me.keys)
            if free:
                # Everyone who lost the same race drew another number, so they spread over the free slots.
                wish = tick.version % self.want.config.replicas[self.want.role]
                self.index = wish if wish in free else free[tick.version % len(free)]
                return
            # A finished task, whose registration is bound to the run's lease, will never be free.
            held = [index for index, kv in self._taken(reply.many(2), me.keys).items() if kv.lease != config.lease]
            if not held:
                refuse_finished(self.want.job.job, me.task, member)
            elif me.task.index not in held:
                self.index = held[0]
                return
        elif self.want.takeover == "force" and member.lease:
            # Revoking ends the holder's registration and leadership together; a put over it would keep the old create
            # revision, and so fence nobody.
            yield Revoke(member.lease, self.until)
            return
        yield from self._wait_for(me, member, revision)

    def _wait_for(self, me: Applicant, member: KV, revision: int) -> Flow[None]:
        holder = Registration.unpack(member.key, member.value)
        self.waits_for = (me.task, holder)
        if self.clock() >= self.until:
            raise self.taken_by(me.task, holder, "and still was when the join deadline passed")
        if self.patience.due():
            why = f"held by {holder.holder}; if that is dead, etcd frees it within {holder.ttl} s"
            what = f"slot {me.task} of job {self.want.job.job!r}"
            yield Tell(Progress(what, 0, 1, {str(me.task): why}, self.patience.waited(), self.patience.left()))
        prefix = me.keys.role_members(self.want.role) if self.want.index is None else member.key
        yield Change(prefix, revision, self.patience.next())

    def taken_by(self, task: Task, holder: Registration, when: str) -> SlotTakenError:
        slots = self.want.config.replicas[self.want.role] if self.want.index is None else 1
        return taken(self.want.job.job, task, holder, slots, when)

    # -- the answers

    def _applicant(self, keys: RunKeys, index: int) -> Applicant:
        task = Task(self.want.role, index)
        return Applicant(keys, task, self.registration, self.want.config.pack(), self.lease)

    def _joined(self, me: Applicant, run: str, reply: TxnReply) -> Joined:
        config, member, crashes = reply.one(-4), reply.one(-3), reply.one(-2)
        assert config is not None and member is not None and self.view is not None
        standing = Standing(
            keys=me.keys,
            job=self.want.job.job,
            run=run,
            task=me.task,
            incarnation=me.registration.incarnation,
            address=me.registration.address,
            ttl=me.registration.ttl,
            lease=self.lease,
            token=member.create,
            config=self.want.config,
            config_create=config.create,
            run_lease=config.lease,
            restarts=crashes.version if crashes else 0,
        )
        return Joined(standing, self.view, me.registration)


def _is_mine(member: KV, me: Applicant) -> bool:
    if member.value == me.value:
        return True
    try:
        return Registration.unpack(member.key, member.value).incarnation == me.registration.incarnation
    except StoreError:
        return False
