"""What a barrier promises: released once, when all parties of exactly that attempt have arrived, or broken; for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.scenario import BARRIER
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord
from psbarrier.protocol.keys import Attempt, RunKeys, below
from psbarrier.protocol.records import Registration
from psbarrier.spec import Task
from psbarrier.store.base import KV

if TYPE_CHECKING:
    from explorer.monitors import Monitor, Run
    from explorer.process import Process

Call = tuple[Task, str, int]
"""One `wait()` call: the task, its incarnation, and which call of it."""


class Ghost:
    """What has happened at the barrier of one run. A *bout* lasts until a release or a break; bouts are counted."""

    def __init__(self) -> None:
        self.bout = 0
        self.ends: dict[int, str] = {}
        self.first: dict[Call, int] = {}
        self.rounds: dict[str, dict[Task, Call]] = {}
        self.counted: dict[Call, int] = {}
        self.released: dict[int, set[Task]] = {}
        self.orders: dict[int, dict[int, Call]] = {}


class BarrierMonitor:
    """Watches the one barrier of the scenario."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.ghosts: dict[int, Ghost] = {}
        self.roles = monitor.scenario.roles
        self.elastic = monitor.replicas.elastic(self.roles)
        self._moved: list[tuple[Run, BarrierRecord, BarrierRecord]] = []

    def ghost(self, create: int) -> Ghost:
        return self.ghosts.setdefault(create, Ghost())

    def forget(self, run: Run) -> None:
        """The run is gone; what was told in it stays known."""
        self._moved = [moved for moved in self._moved if moved[0] is not run]

    def arrived(self, keys: RunKeys, key: str, old: KV | None, new: KV | None) -> None:
        """An arrival was written, or deleted because it is old."""
        run = self.monitor.run(keys)
        if new is None or run is None:
            return
        if old is not None:
            self.monitor.bad(f"arrival: {key} was overwritten")
        attempt, role, index = key.removeprefix(f"{keys.all_arrivals}{BARRIER}/").split("/")
        task = Task(role, int(index))
        arrival = Arrival.unpack(key, new.value)
        slot = self.monitor.kvs.get(keys.member(task))
        if slot is None or Registration.unpack(slot.key, slot.value).incarnation != arrival.incarnation:
            self.monitor.bad(f"arrival: {arrival.incarnation} arrived for {task}, which it does not hold")
        if run.state is not None:
            self.monitor.bad(f"arrival: {arrival.incarnation} arrived after the end of the job")
        ghost = self.ghost(run.create)
        call = (task, arrival.incarnation, arrival.call)
        ghost.first.setdefault(call, ghost.bout)
        ghost.rounds.setdefault(attempt, {})[task] = call

    def moved(self, run: Run, key: str, old: KV | None, new: KV) -> None:
        """The barrier's record was written; judged when all writes of the transaction are known."""
        before = BarrierRecord.unpack(key, old.value) if old is not None else BarrierRecord()
        self._moved.append((run, before, BarrierRecord.unpack(key, new.value)))

    def applied(self) -> None:
        """All writes of a transaction have been seen."""
        moved, self._moved = self._moved, []
        for run, before, after in moved:
            self._judge(run, before, after)

    def _judge(self, run: Run, before: BarrierRecord, after: BarrierRecord) -> None:
        was, now = before.attempt, after.attempt
        if now.generation != was.generation:
            self._release(run, before, after)
        elif (now.era, now.round) < (was.era, was.round):
            self.monitor.bad(f"barrier: it went back from {was} to {now}")
        elif after.parties != before.parties and now.era == was.era:
            self._counted(run, before, after)
        elif after.broken is not None and before.broken is None:
            there = {str(task) for task in self.ghost(run.create).rounds.get(str(was), ())}
            if after.broken.reason in ("lost", "finished", "out") and after.broken.by in there:
                self.monitor.bad(f"break: for {after.broken.by}, which is {after.broken.reason} but had arrived")
            later = [self._members(run, epoch) for epoch in run.named if epoch > before.epoch]
            if after.broken.reason == "out" and all(Task.parse(after.broken.by) in members for members in later):
                self.monitor.bad(f"break: for {after.broken.by}, which is a member of every later epoch")
            self._end(run, "broken")
        elif before.broken is not None and after.broken is not None and before.broken.missing is not None:
            self.monitor.bad(f"barrier: broken for {before.broken}, it was broken again for {after.broken}")

    def _counted(self, run: Run, before: BarrierRecord, after: BarrierRecord) -> None:
        """It was written down whom the open generation counts."""
        if not self.elastic or before.parties is not None or self.ghost(run.create).rounds.get(str(after.attempt)):
            self.monitor.bad(f"parties: {before} became {after}, which counts others than those who came counted")
        if after.epoch != run.epoch or after.parties != self._members(run, run.epoch):
            self.monitor.bad(f"parties: epoch {run.epoch} is the newest, and {after} counts others")

    def _members(self, run: Run, epoch: int) -> frozenset[Task]:
        return frozenset(member.task for member in run.named[epoch].members if member.task.role in self.roles)

    def _parties(self, record: BarrierRecord) -> frozenset[Task]:
        """Whom the attempt of this record counts."""
        if self.elastic:
            return record.parties or frozenset()
        return frozenset(self.monitor.replicas.tasks(self.roles))

    def _end(self, run: Run, how: str) -> None:
        ghost = self.ghost(run.create)
        ghost.ends[ghost.bout] = how
        ghost.bout += 1

    def _release(self, run: Run, before: BarrierRecord, after: BarrierRecord) -> None:
        was, ghost = before.attempt, self.ghost(run.create)
        if after.attempt != Attempt(was.generation + 1, 0, was.era) or after.last != was or after.broken is not None:
            self.monitor.bad(f"release: {before} became {after}")
        if before.broken is not None:
            self.monitor.bad(f"release: generation {was.generation} was released although it is broken")
        there = ghost.rounds.get(str(was), {})
        start, end = below(run.keys.arrivals(BARRIER, was))
        keys = {key for key in self.monitor.kvs if start <= key < end}
        parties = self._parties(before)
        if set(there) != parties or keys != {run.keys.arrival(BARRIER, was, task) for task in there}:
            self.monitor.bad(f"release: generation {was.generation} with {sorted(map(str, there))} of {len(parties)}")
        ghost.counted |= dict.fromkeys(there.values(), was.generation)
        ghost.released[was.generation] = set(there)
        self._end(run, "released")
        kept = {key.removeprefix(run.keys.all_arrivals)[len(BARRIER) + 1 :][:10] for key in self.monitor.kvs
                if key.startswith(run.keys.all_arrivals)}  # fmt: skip
        if len(kept) > 2:
            self.monitor.bad(f"tidy: the barrier keeps keys of the generations {sorted(kept)}")

    def told(self, process: Process, number: int, what: str, generation: int, order: int = -1) -> None:
        """A `wait()` call returned or raised: "released", "past", "broken" or "over"."""
        me = process.standing
        assert me is not None
        ghost, call = self.ghost(me.config_create), (me.task, me.incarnation, number)
        who = f"{process} call {number} was told {what}"
        if what == "released":
            if call not in ghost.counted:
                self.monitor.bad(f"told: {who} of generation {generation}, and was counted in none")
            known = ghost.orders.setdefault(ghost.counted[call], {})
            parties = len(ghost.released[ghost.counted[call]])
            if not 0 <= order < parties or known.setdefault(order, call) != call:
                self.monitor.bad(f"order: {who} with order {order}, of {parties}, and so was {known}")
        elif what == "past":
            counted = me.task in ghost.released.get(generation, ()) or (self.elastic and generation in ghost.released)
            if not counted or call in ghost.counted:
                self.monitor.bad(f"past: {who} at generation {generation}: {ghost.counted}")
        elif call in ghost.counted:
            self.monitor.bad(f"told: {who}, and was counted in generation {ghost.counted[call]}, which others obey")
        end = ghost.ends.get(ghost.first.get(call, -1), what)
        if what in ("released", "broken") and end != what:
            self.monitor.bad(f"outcome: {who}, and the attempt in which it first arrived was {end}")
