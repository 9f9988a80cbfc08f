"""Party: one member at one barrier, and the transactions that it decides there."""

from __future__ import annotations

from attrs import field, frozen

from psbarrier.protocol.barrier_records import Arrival, BarrierRecord, Definition
from psbarrier.protocol.keys import Attempt, below
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.transactions import absent, unchanged, whole
from psbarrier.protocol.views import ControlView
from psbarrier.spec import Task
from psbarrier.store.base import Compare, Delete, Op, Put, Range, Txn


@frozen
class Party:
    """One member at one barrier. With an `epoch`, only the members of exactly that one meet there: it is broken once a
    later one is sealed."""

    me: Standing
    name: str
    definition: Definition
    epoch: int | None = None
    elastic: bool = field(init=False, eq=False, repr=False)
    """Whether whom a generation counts is fixed only when its first party comes."""
    key: str = field(init=False, eq=False, repr=False)
    _running: tuple[Compare, ...] = field(init=False, eq=False, repr=False)
    """What each arrival compares, wherever it arrives: it is on the path of a barrier, so as much as can be is made once."""

    @key.default
    def _own_key(self) -> str:
        return self.me.keys.barrier(self.name)

    @_running.default
    def _compares(self) -> tuple[Compare, ...]:
        return (*self.me.guard, absent(self.me.keys.state))

    def arrival_key(self, at: Attempt, task: Task | None = None) -> str:
        return self.me.keys.arrival(self.name, at, task or self.me.task)

    def define(self) -> Txn:
        """Write the definition if there is none; refused, it reads definition and the witnesses. Harmless to repeat."""
        key = self.me.keys.definition(self.name)
        return Txn(
            (*self.me.guard, absent(key)),
            (Put(key, self.definition.pack(), self.me.run_lease),),
            (Range(key), *self.me.witnesses),
        )

    @elastic.default
    def _counts_anew(self) -> bool:
        return self.me.config.replicas.elastic(self.definition.roles)

    def tasks(self, view: ControlView) -> tuple[Task, ...]:
        """Whom the open generation counts, or would, if it were fixed now; sorted."""
        return view.parties(self.name, self.me.config.replicas, self.definition.roles)

    def superseded(self, view: ControlView) -> int | None:
        """The later epoch that has ended the meeting, if one has."""
        if self.epoch is None or view.seal is None:
            return None
        newest = view.seal[0].epoch
        return newest if newest > self.epoch else None

    def count(self, seen: int, seal: int, record: BarrierRecord) -> Txn:
        """Fix whom the open generation counts, which `record` says by the spec that was sealed at the revision `seal`.

        Refused, it reads control and the witnesses. Harmless to repeat: the first try changed `mod`.
        """
        keys = self.me.keys
        return Txn(
            (*self.me.guard, absent(keys.state), unchanged(self.key, seen), unchanged(keys.cluster, seal)),
            (Put(self.key, record.pack(), self.me.run_lease),),
            (whole(keys.control), *self.me.witnesses),
        )

    def released(self, at: Attempt) -> BarrierRecord:
        """What the barrier becomes when `at` is released."""
        return BarrierRecord(Attempt(at.generation + 1, 0, at.era), None, at)

    def arrive(self, at: Attempt, seen: int, arrival: Arrival, parties: int, released: bytes) -> Txn:
        """Arrive at `at`, and write `released` if all others have: one step, so that nobody can die in between.

        Accepted, it reads the tick, whose version is the number of arrivals, at 2, and the nested release is at 3.
        Refused, it reads barrier, own arrival, state and the witnesses. Harmless to repeat: an arrival that a first try
        left has our incarnation and call. A release deletes what older generations left behind.
        """
        keys, key, lease = self.me.keys, self.key, self.me.run_lease
        mine, tick = keys.arrival(self.name, at, self.me.task), keys.barrier_tick(self.name, at)
        release = Txn(
            (Compare(tick, "version", "==", parties - 1),),
            (
                Put(key, released, lease),
                Delete(*keys.arrivals_before(self.name, at.generation)),
                Delete(*keys.barrier_ticks_before(self.name, at.generation)),
            ),
        )
        return Txn(
            (*self._running, unchanged(key, seen), absent(mine)),
            (Put(mine, arrival.pack(), lease), Put(tick, b"", lease), Range(tick), release),
            (Range(key), Range(mine), Range(keys.state), *self.me.witnesses),
        )

    def change(
        self, seen: int, record: BarrierRecord, *, unless: str | None = None, also: tuple[Range, ...] = ()
    ) -> Txn:
        """Write `record` over the barrier as it was `seen`: a new round, a new era, or a break.

        With `unless`, only while that arrival does not exist. Accepted, it reads `also` from 1 on; refused, it reads
        barrier and the witnesses, then the `unless` key. Harmless to repeat: the first try changed `mod`.
        """
        compares = [*self.me.guard, unchanged(self.key, seen)]
        reads: list[Op] = [Range(self.key), *self.me.witnesses]
        if unless is not None:
            compares.append(absent(unless))
            reads.append(Range(unless))
        return Txn(tuple(compares), (Put(self.key, record.pack(), self.me.run_lease), *also), tuple(reads))

    def arrivals(self, at: Attempt, *, keys_only: bool = True) -> Range:
        return Range(*below(self.me.keys.arrivals(self.name, at)), keys_only=keys_only)
