"""Each decision is one etcd transaction, and each of those is built here.

Why every one of them may be repeated after a reply that never came stands with it. All of them compare the guard (see
Standing), so none of them can be applied after the member's slot was lost, however late it reaches etcd. Where a
branch reads keys for the caller, the first lines of the function name their order.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen

from psbarrier.protocol.keys import JobKeys, RunKeys, below
from psbarrier.protocol.records import (
    Current,
    Departure,
    Founded,
    Leader,
    Registration,
    Seal,
    Shared,
    pack_state,
)
from psbarrier.protocol.standing import Standing
from psbarrier.spec import Task
from psbarrier.state import JobState
from psbarrier.store.base import KV, Compare, Delete, Op, Put, Range, Txn, TxnReply, prefix_end


def absent(key: str) -> Compare:
    return Compare(key, "create", "==", 0)


def unchanged(key: str, mod: int) -> Compare:
    return Compare(key, "mod", "==", mod)


def whole(prefix: str) -> Range:
    return Range(*below(prefix))


# -- joining ----------------------------------------------------------------------------------------------------------


@frozen
class Applicant:
    """A process that wants a task, before it has one."""

    keys: RunKeys
    task: Task
    registration: Registration
    config: bytes
    lease: int
    value: bytes = field(init=False, eq=False, repr=False)
    """What registers it."""

    @value.default
    def _packed(self) -> bytes:
        return self.registration.pack()

    def entry(self) -> tuple[Op, ...]:
        """Register, and lead if nobody does; then `reads()`."""
        put_leader = Txn((absent(self.keys.leader),), (Put(self.keys.leader, self.name(), self.lease),))
        return (
            Put(self.keys.member(self.task), self.value, self.lease),
            put_leader,
            *self.reads(),
        )

    def claim(self) -> Txn:
        """Say that we found the run, if it does not exist and nobody has said so; refused, it reads the claim.

        Not while somebody still holds our task in a run that has gone: we could not found it then, and others can.
        """
        free = (absent(self.keys.config), absent(self.keys.founder), absent(self.keys.member(self.task)))
        return Txn(free, (Put(self.keys.founder, self.name(), self.lease),), (Range(self.keys.founder),))

    def name(self) -> bytes:
        """Who we are, as a leader and as a founder."""
        return Leader(str(self.task), self.registration.incarnation).pack()

    def claimed(self, reply: TxnReply) -> bool:
        """Whether the claim is ours, as the `reply` to a refused `join` of ours says."""
        claim = reply.nested(0)
        held = None if claim.succeeded else claim.one(0)
        return claim.succeeded or (held is not None and held.value == self.name())

    def reads(self) -> tuple[Range, ...]:
        """Config, own registration, crash count, control: the last four results of whatever branch they stand in."""
        return (
            Range(self.keys.config),
            Range(self.keys.member(self.task)),
            Range(self.keys.crash_tick(self.task)),
            whole(self.keys.control),
        )


def join(me: Applicant, *, claim: bool) -> Txn:
    """Take the task in a run that exists and is not over; or else, with `claim`, claim to found it.

    Both branches end with `Applicant.reads()`; a refused one begins with the claim, if any. Harmless to repeat: a
    first try that was applied shows in the second one's registration, or claim, which carries our incarnation.
    """
    return Txn(
        (
            absent(me.keys.state),
            Compare(me.keys.config, "value", "==", me.config),
            absent(me.keys.member(me.task)),
        ),
        me.entry(),
        (me.claim(), *me.reads()) if claim else me.reads(),
    )


@frozen
class Founding:
    """What a new run replaces: `current_mod` is how J/current was seen (None: an explicit run, which never touches it);
    `abandoned` are the keys of a run without any member, and its config, which is closed in the same step. `wall` is the
    time of it, in seconds since 1970.
    """

    job: JobKeys
    run: str
    current_mod: int | None = None
    abandoned: RunKeys | None = None
    abandoned_config: KV | None = None
    wall: float = 0.0


def found(me: Applicant, founding: Founding, run_lease: int) -> Txn:
    """Create the run and join it, in one step: a run without a member would look abandoned to the next process.

    Accepted, it ends with `Applicant.reads()`; refused, it reads config. Harmless to repeat: a first try that was
    applied left a config under our own run lease.
    """
    compares = [absent(me.keys.config), absent(me.keys.member(me.task))]
    writes: list[Op] = [
        Put(me.keys.config, me.config, run_lease),
        Put(me.keys.founded, Founded(founding.wall).pack(), run_lease),
        Delete(me.keys.founder),
    ]
    if founding.current_mod is not None:
        compares.append(unchanged(founding.job.current, founding.current_mod))
        writes.append(Put(founding.job.current, Current(founding.run).pack(), run_lease))
    old, old_config = founding.abandoned, founding.abandoned_config
    if old is not None and old_config is not None:
        compares += [
            absent(old.state),
            absent(old.leader),
            Compare(old.config, "create", "==", old_config.create),
            Compare(old.members, "create", "==", 0, end=prefix_end(old.members)),
        ]
        closed = JobState(
            "failed", by="nobody", reason="abandoned: its last process had gone", exit_code=1, since=founding.wall
        )
        writes.append(Put(old.state, pack_state(closed), old_config.lease))
    return Txn(tuple(compares), (*writes, *me.entry()), (Range(me.keys.config),))


def draw_slot(keys: RunKeys, role: str, config: KV) -> Txn:
    """A number that no other process draws, and who holds which slot now: reads tick, registrations (keys only).

    Not harmless to repeat, but a number that is drawn in vain costs nothing.
    """
    tick = keys.slot_tick(role)
    return Txn(
        (Compare(keys.config, "create", "==", config.create),),
        (Put(tick, b"", config.lease), Range(tick), Range(*below(keys.role_members(role)), keys_only=True)),
    )


def attach(me: Standing, seen: KV, registration: Registration) -> Txn:
    """Write the child's process into the registration that its guardian made; refused, it reads the witnesses.

    Harmless to repeat: the registration that a first try wrote names our own process.
    """
    return Txn(
        (*me.guard, unchanged(me.key, seen.mod)),
        (Put(me.key, registration.pack(), me.lease),),
        me.witnesses,
    )


# -- leading ----------------------------------------------------------------------------------------------------------


def lead(me: Standing) -> Txn:
    """Take the leadership that nobody has; refused, it reads leader and the witnesses.

    Harmless to repeat: a first try that was applied shows our incarnation as the leader.
    """
    leader = Leader(str(me.task), me.incarnation).pack()
    return Txn(
        (*me.guard, absent(me.keys.leader)),
        (Put(me.keys.leader, leader, me.lease),),
        (Range(me.keys.leader), *me.witnesses),
    )


def decree(
    me: Standing, term: int, seen: Mapping[str, int], writes: Mapping[str, bytes], extra: tuple[Op, ...] = ()
) -> Txn:
    """A leader's write of `writes`, whose keys it last saw at the revisions `seen`.

    Refused, it reads control and the witnesses. Harmless to repeat: whatever was applied changed the `mod` of a key
    that the repeat compares.
    """
    compares = [Compare(me.keys.leader, "create", "==", term), absent(me.keys.state)]
    compares += [unchanged(key, mod) for key, mod in seen.items()]
    puts = [Put(key, value, me.run_lease) for key, value in writes.items()]
    return Txn((*me.guard, *compares), (*puts, *extra), (whole(me.keys.control), *me.witnesses))


def give_up(me: Standing, term: int, task: Task, seen: int, state: JobState, others: int | None = None) -> Txn:
    """Fail the job because `task` stayed away too long; refused, it reads control and the witnesses.

    It compares that the registration is as it was `seen`, absent or of no use: it may have come back a moment ago. With
    `others`, also that nobody of its role has registered since that revision, in whose place it may stay away.
    """
    compares = [
        *me.guard,
        Compare(me.keys.leader, "create", "==", term),
        absent(me.keys.state),
        unchanged(me.keys.member(task), seen),
    ]
    if others is not None:
        start, end = below(me.keys.role_members(task.role))
        compares.append(Compare(start, "mod", "<", others + 1, end=end))
    return Txn(
        tuple(compares),
        (Put(me.keys.state, pack_state(state), me.run_lease),),
        (whole(me.keys.control), *me.witnesses),
    )


def resign(me: Standing, term: int) -> Txn:
    """Give the leadership up."""
    return Txn((Compare(me.keys.leader, "create", "==", term),), (Delete(me.keys.leader),))


# -- ending -----------------------------------------------------------------------------------------------------------


def finish(me: Standing, registration: Registration, wall: float, seal: tuple[Seal, int] | None = None) -> Txn:
    """Finish the task: the registration moves to the run lease, its role's tick counts it, and the job succeeds if that
    was the last one that the policy waits for.

    Where one of those roles is elastic, `seal` is the newest epoch, which says how many they are; another one refuses this.

    Refused, it reads control and the witnesses. The compare of the registration's *lease* is what makes it harmless to
    repeat: a first try that was applied moved the registration away from our lease, so nothing is counted twice.
    """
    keys, replicas, policy = me.keys, me.config.replicas, me.config.policy
    deciding = policy.deciding_roles(replicas)
    compares = [*me.guard, Compare(me.key, "lease", "==", me.lease)]
    writes: list[Op] = [
        Put(me.key, evolve(registration, finished=wall).pack(), me.run_lease),
        Put(keys.finish_tick(me.task.role), b"", me.run_lease),
    ]
    if me.task.role in deciding:
        counts = {role: replicas[role] for role in deciding}
        if seal is not None:
            compares.append(unchanged(keys.cluster, seal[1]))
            counts = {role: sum(task.role == role for task in seal[0].tasks or ()) for role in deciding}
        # All compares are decided before any write, so our own tick still counts one less.
        last = [
            Compare(keys.finish_tick(role), "version", "==", count - (role == me.task.role))
            for role, count in counts.items()
        ]
        success = Put(keys.state, pack_state(JobState("succeeded", since=wall)), me.run_lease)
        writes.append(Txn((*last, absent(keys.state)), (success,)))
    return Txn(tuple(compares), tuple(writes), (whole(keys.control), *me.witnesses))


def fail(keys: RunKeys, config: KV, state: JobState) -> Txn:
    """End the run as failed, unless it is over; refused, it reads state and config. The first error wins."""
    return Txn(
        (absent(keys.state), Compare(keys.config, "create", "==", config.create)),
        (Put(keys.state, pack_state(state), config.lease),),
        (Range(keys.state), Range(keys.config)),
    )


def fail_own(me: Standing, state: JobState) -> Txn:
    """A member ends the job as failed; refused, it reads state and the witnesses."""
    return Txn(
        (*me.guard, absent(me.keys.state)),
        (Put(me.keys.state, pack_state(state), me.run_lease),),
        (Range(me.keys.state), *me.witnesses),
    )


def depart(me: Standing, departure: Departure) -> Txn:
    """Leave other than by finishing: the registration goes at once, with a word on why. A crash is counted, and the one
    that `max_restarts` does not forgive fails the job in the same step.

    Refused, it reads the witnesses. The compare of the registration's lease makes it harmless to repeat, and keeps a
    task that has finished from being reported as crashed.
    """
    keys, lease = me.keys, me.run_lease
    writes: list[Op] = [Delete(me.key), Put(keys.departure(me.task), departure.pack(), lease)]
    if departure.kind == "crashed":
        tick = keys.crash_tick(me.task)
        allowed = me.config.policy.max_restarts
        reason = f"{me.task} crashed: {departure.reason}"
        if allowed:
            reason += f" (and its {allowed} restart{'s' if allowed > 1 else ''} had been used up)"
        state = JobState("failed", str(me.task), reason, departure.exit_code, departure.since)
        fatal = Txn(
            (Compare(tick, "version", "==", allowed), absent(keys.state)),
            (Put(keys.state, pack_state(state), lease),),
        )
        writes += [Put(tick, b"", lease), fatal]
    return Txn((*me.guard, Compare(me.key, "lease", "==", me.lease)), tuple(writes), me.witnesses)


def share(me: Standing, name: str, seen: int, shared: Shared) -> Txn:
    """Share a value over what was `seen` under its name; refused, it reads the value and the witnesses.

    The compare of `mod` keeps a late first try from overwriting what came after it.
    """
    key = me.keys.shared(name)
    return Txn(
        (*me.guard, unchanged(key, seen)),
        (Put(key, shared.pack(), me.run_lease),),
        (Range(key), *me.witnesses),
    )
