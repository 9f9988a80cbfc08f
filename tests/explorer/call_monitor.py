"""What a process is told, by its view or by a call that returns, must be so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psbarrier.errors import AlreadyFinishedError
from psbarrier.protocol.records import Departure
from psbarrier.protocol.views import View
from psbarrier.spec import ClusterSpec, Task

if TYPE_CHECKING:
    from explorer.monitors import Monitor
    from explorer.process import Process


class CallMonitor:
    """Compares what is told with what is known to have happened."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def caught_up(self, process: Process, view: View) -> None:
        """A watch has nothing more to tell: its view, if it was read once, is what etcd holds."""
        if not view._floor:
            return
        stored = {kv.key: kv.mod for kv in process.world.fabric.keyspace.kvs(view.prefix)}
        known = {key: view.mod(key) for key in {*stored, *view._kvs}}
        if known != stored:
            self.monitor.bad(f"view: {process} has been told everything, and knows {known} where {stored} is")

    def entered(self, process: Process) -> None:
        """join() returned."""
        me = process.standing
        assert me is not None
        for other in process.world.processes:
            theirs = other.standing
            if theirs is not None and other is not process and (theirs.key, theirs.token) == (me.key, me.token):
                self.monitor.bad(f"slot: {process} and {other} hold {me.task} with one token")

    def passed(self, process: Process, spec: ClusterSpec) -> None:
        """cluster() returned."""
        me = process.standing
        assert me is not None
        named = spec.member(me.task).incarnation
        if named != me.incarnation:
            self.monitor.bad(f"gate: {process} passed with epoch {spec.epoch}, which names {named} as {me.task}")
        run = next((run for run in self.monitor.every if run.create == me.config_create), None)
        if run is None or run.named.get(spec.epoch) != spec:
            self.monitor.bad(f"gate: {process} passed with an epoch {spec.epoch} that was never sealed")

    def finished(self, process: Process) -> None:
        """finish() returned."""
        me = process.standing
        assert me is not None
        run = next(run for run in self.monitor.every if run.create == me.config_create)
        if run.finished.get(me.task) != me.incarnation:
            self.monitor.bad(f"finish: {process} was told that it has finished, and it has not")

    def departed(self, process: Process, departure: Departure, told: bool) -> None:
        """crash() or leave() returned."""
        me = process.standing
        assert me is not None
        run = next(run for run in self.monitor.every if run.create == me.config_create)
        if told and departure.kind == "crashed" and me.incarnation not in run.crashed.get(me.task, []):
            self.monitor.bad(f"crash: {process} was told that its crash is known, and it is not")

    def refused_as_finished(self, process: Process, error: AlreadyFinishedError) -> None:
        """join() said that the task has finished."""
        runs = [run for run in self.monitor.every if Task.parse(error.task) in run.finished]
        if process.index is None:
            slots = self.monitor.scenario.config.replicas.tasks((process.role,))
            runs = [run for run in runs if set(slots) <= set(run.finished)]
        if not runs:
            self.monitor.bad(
                f"join: {process} was refused because {error.task} has finished, and a slot of its role has not"
            )
