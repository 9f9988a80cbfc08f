"""Monitors: the promises, checked after every write and every call that returns, with all that ever happened in mind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from explorer.barrier_monitor import BarrierMonitor
from explorer.call_monitor import CallMonitor
from explorer.scenario import JOB, Scenario
from explorer.violation import Violation
from psbarrier.protocol.keys import RunKeys, parse_task
from psbarrier.protocol.records import Departure, Gone, Leader, Registration, Seal, Shared, unpack_spec, unpack_state
from psbarrier.spec import ClusterSpec, Task
from psbarrier.state import JobState
from psbarrier.store.base import KV, Event

if TYPE_CHECKING:
    from explorer.process import Process

__all__ = ["Monitor", "Run", "Violation"]


class Run:
    """What has happened in one run, from the writing of its config until that went."""

    def __init__(self, keys: RunKeys, config: KV) -> None:
        self.keys, self.create = keys, config.create
        self.registered: dict[str, int] = {}
        self.finished: dict[Task, str] = {}
        self.departed: set[str] = set()
        self.crashed: dict[Task, list[str]] = {}
        self.epoch = 0
        self.bodies: dict[str, bytes] = {}
        self.named: dict[int, ClusterSpec] = {}
        self.state: JobState | None = None
        self.shares: dict[str, list[int]] = {}


class Monitor:
    """Keeps a mirror of etcd, for what a write means depends on what stood there before it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.replicas = scenario, scenario.config.replicas
        self.kvs: dict[str, KV] = {}
        self.runs: dict[str, Run] = {}
        self.every: list[Run] = []
        self.token = 0
        self.who: str | None = None
        self.barriers = BarrierMonitor(self)
        self.calls = CallMonitor(self)
        self.deciding = scenario.config.policy.deciding_roles(self.replicas)
        self._checks = {
            "config": self._config,
            "members": self._member,
            "control": self._control,
            "cluster": self._body,
            "ticks": self._tick,
            "departures": self._departure,
            "arrivals": self.barriers.arrived,
        }

    def bad(self, why: str) -> NoReturn:
        raise Violation(why)

    # -- what was written

    def applied(self, who: Process | None, events: tuple[Event, ...]) -> None:
        """`who` (None: a lease's end) has changed these keys in one transaction."""
        self.who = who.name if who is not None else None
        self._writer(who, events)
        self._founder(events)
        before = {}
        for event in events:
            key = event.kv.key
            before[key] = self.kvs.pop(key, None) if event.deleted else self.kvs.get(key)
            if not event.deleted:
                self.kvs[key] = event.kv
        for event in events:
            key = event.kv.key
            if key == JOB.current:
                continue
            run, _, path = key.removeprefix(JOB.runs).partition("/")
            check = self._checks.get(path.partition("/")[0])
            if check is not None:
                check(JOB.run(run), key, before[key], None if event.deleted else event.kv)
        self.barriers.applied()

    def _writer(self, who: Process | None, events: Iterable[Event]) -> None:
        """Nobody writes for a task that it does not hold, or in a run that is gone."""
        me = who.standing if who is not None else None
        if me is None:
            return
        slot, config = self.kvs.get(me.key), self.kvs.get(me.keys.config)
        if slot is not None and slot.create == me.token and config is not None and config.create == me.config_create:
            return
        wrote = [event.kv.key for event in events if not self._harmless(me.key, me.incarnation, event)]
        if wrote and me.key not in wrote:
            held = "nobody" if slot is None else Registration.unpack(me.key, slot.value).incarnation
            self.bad(f"writer: {who} wrote {wrote} though {me.task} belongs to {held} (or its run is gone)")

    def _harmless(self, slot: str, incarnation: str, event: Event) -> bool:
        """A leader may resign at any time; a number that was drawn in vain costs nothing; a late try to join that claims the
        founding of a run that has gone decides nothing."""
        old = self.kvs.get(event.kv.key)
        if event.deleted and event.kv.key.endswith("/control/leader") and old is not None:
            return Leader.unpack(old.key, old.value).incarnation == incarnation
        return "/ticks/slots/" in event.kv.key or event.kv.key.endswith("/founder")

    def _founder(self, events: Iterable[Event]) -> None:
        """A new current run replaces none that is alive."""
        if not any(event.kv.key == JOB.current and not event.deleted for event in events):
            return
        old = self.kvs.get(JOB.current)
        if old is None:
            return
        for run in self.runs.values():
            lived = run.keys.config in self.kvs and run.state is None
            if lived and (run.keys.leader in self.kvs or any(key.startswith(run.keys.members) for key in self.kvs)):
                self.bad(f"founding: a second run was founded while {run.keys.root} is alive")

    def run(self, keys: RunKeys) -> Run | None:
        """What is known of the run that stands under these keys now."""
        return self.runs.get(keys.root)

    def _config(self, keys: RunKeys, key: str, old: KV | None, new: KV | None) -> None:
        if new is None:
            self.barriers.forget(self.runs.pop(keys.root))
        elif old is not None:
            self.bad(f"founding: the config of {keys.root} was written twice")
        else:
            run = self.runs[keys.root] = Run(keys, new)
            self.every.append(run)

    def _member(self, keys: RunKeys, key: str, old: KV | None, new: KV | None) -> None:
        run, task = self.run(keys), parse_task(keys.members, key)
        if new is None or run is None:
            return
        now = Registration.unpack(key, new.value)
        if old is None:
            if new.create <= self.token:
                self.bad(f"token: {task} got {new.create}, not above {self.token}")
            self.token = new.create
            if run.state is not None:
                self.bad(f"join: {now.incarnation} was registered as {task} after the end of the job")
            if run.registered.setdefault(now.incarnation, new.lease) != new.lease:
                self.bad(f"join: {now.incarnation} was registered with two leases")
            return
        before = Registration.unpack(key, old.value)
        if before.incarnation != now.incarnation:
            self.bad(
                f"slot: {now.incarnation} was written over {before.incarnation} in {task}, whose token fences nobody"
            )
        if now.finished:
            if task in run.finished:
                self.bad(f"finish: {task} was finished twice, by {run.finished[task]} and {now.incarnation}")
            run.finished[task] = now.incarnation

    def _control(self, keys: RunKeys, key: str, old: KV | None, new: KV | None) -> None:
        run = self.run(keys)
        if new is None or run is None:
            if (
                key == keys.leader
                and old is not None
                and self.who not in (None, Leader.unpack(key, old.value).incarnation)
            ):
                self.bad(f"leader: {self.who} ended the leadership of another")
            return
        if key == keys.state:
            self._state(run, new)
        elif key == keys.cluster:
            self._seal(run, Seal.unpack(key, new.value))
        elif key == keys.gone:
            self._gone(run, Gone.unpack(key, new.value))
        elif key == keys.leader:
            if old is not None:
                self.bad("leader: one leader was written over another")
        elif key.startswith(keys.shared("")):
            self._shared(run, Shared.unpack(key, new.value))
        else:
            self.barriers.moved(run, key, old, new)

    def _state(self, run: Run, new: KV) -> None:
        state = unpack_state(new.key, new.value)
        if run.state is not None:
            self.bad(f"state: decided twice, {run.state} and {state}")
        run.state = state
        if state.phase == "succeeded" and (missing := set(self._members(run, self.deciding)) - set(run.finished)):
            self.bad(f"state: succeeded although {sorted(map(str, missing))} have not finished")
        if "did not come back" in state.reason:
            self._grace(run, Task.parse(state.by))
        if " crashed: " in state.reason:
            crashes, allowed = run.crashed.get(Task.parse(state.by), []), self.scenario.config.policy.max_restarts
            tick = self.kvs.get(run.keys.crash_tick(Task.parse(state.by)))
            if tick is None or tick.version != allowed + 1 or len(crashes) > allowed + 1:
                self.bad(f"crash: the job failed for {len(crashes)} crashes of {state.by}, and {allowed} are forgiven")
        if state.by == "nobody" and not run.registered:
            self.bad(f"founding: {run.keys.root} was closed as abandoned before anybody could join it")

    def _members(self, run: Run, roles: Iterable[str]) -> tuple[Task, ...]:
        """The tasks of these roles; where one is elastic, those of the newest epoch."""
        if not self.replicas.elastic(roles):
            return self.replicas.tasks(roles)
        return tuple(member.task for member in run.named[run.epoch].members if member.task.role in roles)

    def _grace(self, run: Run, lost: Task) -> None:
        """The job has failed for the loss of this task."""
        if run.keys.member(lost) in self.kvs:
            self.bad(f"grace: the job failed for the loss of {lost}, which is registered")
        there = sum(key.startswith(run.keys.role_members(lost.role)) for key in self.kvs)
        if lost.role in self.replicas.elastic_roles and there >= self.replicas.minimum(lost.role):
            self.bad(f"grace: the job failed for the loss of {lost}, and {there} of its role are there")

    def _seal(self, run: Run, seal: Seal) -> None:
        if seal.epoch <= run.epoch:
            self.bad(f"epoch: {seal.epoch} was sealed after {run.epoch}")
        run.epoch = seal.epoch
        body = self.kvs[run.keys.body(seal.epoch)]
        spec = unpack_spec(body.key, body.value)
        tasks = tuple(member.task for member in spec.members)
        announced = tasks if self.replicas.elastic() else None
        if seal != Seal.of(seal.epoch, body.value, announced) or spec.epoch != seal.epoch:
            self.bad(f"epoch: the seal of {seal.epoch} is not that of its spec")
        possible = tuple(task for task in self.replicas.tasks() if task in tasks)
        if tasks != possible or self.replicas.short_of(tasks):
            self.bad(f"epoch: {seal.epoch} names {spec}, and not every task that it must, once")
        run.named[seal.epoch] = spec

    def _body(self, keys: RunKeys, key: str, old: KV | None, new: KV | None) -> None:
        run = self.run(keys)
        if new is not None and run is not None and run.bodies.setdefault(key, new.value) != new.value:
            self.bad(f"epoch: {key} has two contents")

    def _gone(self, run: Run, gone: Gone) -> None:
        for task, loss in gone.lost.items():
            slot = self.kvs.get(run.keys.member(task))
            listed = slot is not None and Registration.unpack(slot.key, slot.value).incarnation == loss.incarnation
            # A late first try to join may register one that has departed, for as long as its lease lives; its token
            # fences it all the same.
            if listed and loss.incarnation not in run.departed:
                self.bad(f"gone: {task} is listed as lost with {loss.incarnation}, which is registered")
            if task in run.finished:
                self.bad(f"gone: {task} is listed as lost, and has finished")
        if wrong := gone.finished - set(run.finished):
            self.bad(f"gone: {sorted(map(str, wrong))} are listed as finished, and are not")
        if run.state is not None:
            self.bad("gone: the list was written after the end of the job")

    def _shared(self, run: Run, shared: Shared) -> None:
        writer, _, number = shared.write.rpartition("/")
        known = run.shares.setdefault(writer, [])
        if known and int(number) < known[-1]:
            self.bad(f"share: {shared.write} overwrote a later one of its own member: {known}")
        known.append(int(number))

    def _departure(self, keys: RunKeys, key: str, old: KV | None, new: KV | None) -> None:
        run, task = self.run(keys), parse_task(keys.departures, key)
        if new is None or run is None:
            return
        departure = Departure.unpack(key, new.value)
        run.departed.add(departure.incarnation)
        if departure.kind == "crashed":
            if task in run.finished:
                self.bad(f"crash: {task} has finished, and was reported as crashed")
            if departure.incarnation in run.crashed.setdefault(task, []):
                self.bad(f"crash: the end of {departure.incarnation} was reported twice")
            run.crashed[task].append(departure.incarnation)

    def _tick(self, keys: RunKeys, key: str, old: KV | None, new: KV | None) -> None:
        run = self.run(keys)
        if new is None or run is None:
            return
        if key.startswith(keys.finish_tick("")):
            role = key.removeprefix(keys.finish_tick(""))
            count = sum(task.role == role for task in run.finished)
            if new.version != count:
                self.bad(f"finish: {new.version} are counted of {role}, and {count} have finished")
        elif key.startswith(keys.crash_ticks):
            crashes = run.crashed.get(parse_task(keys.crash_ticks, key), [])
            if new.version != len(crashes):
                self.bad(f"crash: {new.version} are counted, and there were {len(crashes)}")
