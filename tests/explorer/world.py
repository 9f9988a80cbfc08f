"""World: one schedule. A seed picks, again and again, which pending step of which process comes next, and what fails."""

from __future__ import annotations

import random

from explorer.actors import life
from explorer.fabric import Channel, Fabric
from explorer.monitors import Monitor
from explorer.process import Coroutine, Process
from explorer.scenario import JOB, SECOND, Scenario
from explorer.troubles import TROUBLES
from psbarrier.errors import StoreError, StoreRefusedError, StoreUnavailableError
from psbarrier.flows.effects import Apply, Revoke
from psbarrier.protocol.keys import RunKeys
from psbarrier.protocol.records import Current

LAST_STEPS = 4000
IDLE = 150
"""So many waits may end one after the other before it counts as hanging: nothing else can happen meanwhile."""


class World:
    """Runs one schedule to its end."""

    def __init__(self, scenario: Scenario, *, log: bool = False) -> None:
        self.scenario = scenario
        self.random = random.Random(~scenario.seed)
        self.log: list[str] | None = [] if log else None
        self.monitor = Monitor(scenario)
        self.fabric = Fabric(self.monitor)
        self.processes: list[Process] = []
        self.budget = dict(scenario.budget)
        self.faulty = True
        self.troubled = not scenario.calm_start
        self.again = 0
        self.renewed = False
        self._wall = 1_700_000_000.0
        self._idle = 0
        self._passed = 0
        self._held: list[Process] = []
        self.steps = 0
        self._late, self._eager = scenario.late, scenario.eager
        self._written = 0

    # -- what others ask

    def wall(self) -> float:
        self._wall += 0.25
        return self._wall

    def spend(self, name: str, chance: float) -> bool:
        """Whether this trouble happens now."""
        if not self.troubled or self.budget[name] <= 0 or self.random.random() >= chance:
            return False
        self.budget[name] -= 1
        return True

    def passed(self) -> None:
        """A process has passed the gate: where the start is calm, trouble begins with the last one."""
        self._passed += 1
        if self._passed == self.scenario.config.replicas.size:
            self.troubled = self.faulty

    def unlucky(self) -> bool:
        """Whether the reply to something small is lost."""
        return self.spend("drop", self.scenario.trouble)

    def say(self, *words: object) -> None:
        if self.log is not None:
            line = " ".join(map(str, words))
            if not self.log or self.log[-1] != line:
                self.log.append(line)

    # -- starting

    def spawn(self, role: str, index: int | None, *, force: bool = False) -> None:
        process = Process(self, len(self.processes), role, index, force=force)
        self.processes.append(process)
        self.say("start", process, "by force" if force else "")
        process.start("main", life)

    def spawn_later(self, role: str, index: int | None, *, force: bool = False) -> None:
        self.fabric.late.append((f"a start of {role} {index}", lambda: self.spawn(role, index, force=force)))

    def process_ended(self, process: Process, verdict: str) -> None:
        self.say(process, "ends:", verdict)
        if verdict != "done" and not process.replaced and not (self.over() and not self.scenario.named_run):
            process.replaced = True
            self.spawn_again(process)

    def spawn_again(self, process: Process) -> None:
        if self.faulty and self.scenario.slow_restarts:
            self._held.append(process)
        else:
            self.spawn_later(process.role, process.index)

    def current(self) -> RunKeys | None:
        """The run that is meant now."""
        if self.scenario.named_run:
            return self.scenario.keys
        kv = self.fabric.keyspace.get(JOB.current)
        return JOB.run(Current.unpack(kv.key, kv.value).run) if kv is not None else None

    def over(self) -> bool:
        """Whether the current run has a terminal state."""
        keys = self.current()
        return keys is not None and self.fabric.keyspace.get(keys.state) is not None

    # -- the schedule

    def play(self) -> None:
        """Run until nothing is left to do, or nothing goes on; raises Violation when a promise is broken."""
        for task in self.scenario.config.replicas.tasks():
            self.spawn_later(task.role, task.index if self.scenario.named_index else None)
        for _ in range(self.scenario.steps):
            if not self._step():
                break
        self.say("--- from here on nothing fails any more")
        self.faulty = self.troubled = False
        for process in self._held:
            self.spawn_later(process.role, process.index)
        # What a watch brings may lag far behind, but not for ever.
        self._late, self._eager = 0.2, 0.7
        for _ in range(LAST_STEPS):
            if not self._step() and not self._start_again():
                break

    def _step(self) -> bool:
        """Take one step; False when there is none left to take."""
        chance = self.random.random
        self.steps += 1
        if self.troubled and chance() < self.scenario.trouble and self._trouble():
            return True
        flows = [co for process in self.processes if process.alive for co in process.coroutines]
        ready = [co for co in flows if co.stalled < self.steps and co.ready()]
        lagging = [channel for channel in self.fabric.channels if channel.queue]
        late = self.fabric.late
        if not (ready or lagging or late):
            ready = [co for co in flows if co.ready()]
        if late and (not (ready or lagging) or chance() < self._late):
            label, act = late.pop(int(chance() * len(late)))
            self.say("late:", label)
            act()
        elif lagging and (not ready or chance() < self._eager):
            self._deliver(lagging[int(chance() * len(lagging))])
        elif ready and (not self.faulty or chance() > self.scenario.haste or not self._pass_time()):
            self._perform(ready[int(chance() * len(ready))])
        elif not ready:
            return self._pass_time()
        return True

    def _deliver(self, channel: Channel) -> None:
        if self.log is not None:
            self.say("  ", channel.process, "is told of", ", ".join(channel.told()))
        channel.deliver()
        if not channel.queue:
            self.monitor.calls.caught_up(channel.process, channel.view)

    def _pass_time(self) -> bool:
        """End a wait by its deadline: a short one at any time, a long one within a budget; without faults, the shortest
        when nothing else can happen."""
        waiting: list[tuple[float, int, str, Coroutine]] = []
        for process in self.processes:
            for co in process.coroutines:
                kind, alarm = self._patience(co), co.alarm
                if alarm is not None and (not kind or self.budget[kind]) and not co.ready():
                    waiting.append((alarm - co.now, len(waiting), kind, co))
        if not waiting:
            return False
        wait, _, kind, chosen = self.random.choice(waiting) if self.faulty else min(waiting)
        if kind:
            self.budget[kind] -= 1
        self.say(chosen.where(), f"waited {wait:.2f} s")
        chosen.now += max(wait, 0.0)
        chosen.resume(None)
        return self._progress()

    def _patience(self, co: Coroutine) -> str:
        """Which budget the end of this wait costs; none for short ones, and for the protocol's own without faults."""
        if co.alarm is None or co.alarm - co.now <= SECOND:
            return ""
        if co.alarm == co.deadline:
            return "timeout"
        return "long" if self.faulty else ""

    def _progress(self) -> bool:
        """Whether anything but waiting has happened lately."""
        if self._written != len(self.fabric.history):
            self._written, self._idle = len(self.fabric.history), 0
        self._idle += 1
        return self._idle < IDLE

    def _perform(self, co: Coroutine) -> None:
        effect = co.effect
        if isinstance(effect, Apply):
            if self.spend("drop", 2 * self.scenario.trouble):
                self._lose(co, effect)
            elif co.name == "duty" and self.spend("refuse", 0.3):
                self.say(co.where(), "REFUSED")
                co.resume(None, StoreRefusedError("etcd is full"))
            else:
                self._apply(co, effect)
        elif isinstance(effect, Revoke):
            self.say(co.where(), effect.lease)
            if self.spend("drop", 2 * self.scenario.trouble):
                lease = effect.lease
                self.fabric.late.append((f"revoke {lease}, late", lambda: self.fabric.end_lease(lease)))
            else:
                self.fabric.end_lease(effect.lease)
            co.resume(None)
        else:
            self.say(co.where())
            co.answer()

    def _apply(self, co: Coroutine, effect: Apply) -> None:
        where = co.where() if self.log is not None else ""
        try:
            reply = co.process.apply(effect)
        except StoreError as error:
            self.say(where, f"-> {type(error).__name__}")
            co.resume(None, error)
        else:
            self.say(where, "-> done" if reply.succeeded else "-> refused", f"at {reply.revision}")
            co.resume(reply)

    def _lose(self, co: Coroutine, effect: Apply) -> None:
        """The request, or its reply, is lost, or the request comes later than its sender waits."""
        how = self.random.choice(("applied", "dropped", "late", "late"))
        self.say(co.where(), "REPLY LOST:", how)
        if how == "applied":
            self.fabric.arrive(co.process, effect.txn)
        elif how == "late":
            process, txn = co.process, effect.txn
            self.fabric.late.append((f"a request of {co.where()}", lambda: self.fabric.arrive(process, txn)))
        co.now += 70.0 if self.spend("timeout", 0.3) else self.random.choice((0.0, 0.0, 1.0))
        co.resume(None, StoreUnavailableError("the reply was lost"))

    def leave_request(self, co: Coroutine) -> None:
        """The flow ends in the middle of what it does: a request of it may still reach etcd."""
        effect = co.effect
        if isinstance(effect, Apply) and self.random.random() < 0.5:
            process, txn, where = co.process, effect.txn, co.where()
            self.fabric.late.append((f"a request of {where}", lambda: self.fabric.arrive(process, txn)))

    def _trouble(self) -> bool:
        """Let something go wrong, of what the budget still allows; False when nothing can."""
        kinds = [kind for kind in TROUBLES if self.budget[kind] > 0]
        kind = self.random.choice(kinds) if kinds else ""
        if not kinds or not TROUBLES[kind](self):
            return False
        self.budget[kind] -= 1
        return True

    def living(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def _start_again(self) -> bool:
        """Start what is missing of a job whose run is gone or was replaced: its processes had ended in the former one."""
        if self.over() or self.again >= 3 or not (self.renewed or len(self.monitor.every) > 1):
            return False
        self.again += 1
        alive = [(process.role, process.index) for process in self.living() if process.error is None]
        started = False
        for task in self.scenario.config.replicas.tasks():
            wanted = (task.role, task.index if self.scenario.named_index else None)
            if wanted in alive:
                alive.remove(wanted)
            else:
                self.spawn_later(*wanted)
                started = True
        return started
