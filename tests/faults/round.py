"""Round: one plan, played with real processes from the first start to the last lease."""

from __future__ import annotations

import time
from pathlib import Path

from faults.calls import CallFiles
from faults.crew import Crew
from faults.gateway import Gateway
from faults.mishaps import Mishaps
from faults.plan import Plan
from faults.recording import Journal, Recorder, now
from faults.storms import Storms
from faults.wires import Wires
from faults.witness import Witness
from psbarrier.etcd_cluster import EtcdCluster

_POLL = 0.02
_LOOK = 0.2
"""Seconds between two looks into what the processes have written, when no fault waits for a word in it."""
END = 45.0
"""Seconds from the end of the last fault until the job must be over."""
EXIT = 20.0
"""Seconds from the job's end until all of its processes must have ended by themselves."""
AGREE = 5.0
"""Seconds until all etcds must have applied the same."""
CLEAR = 12.0
"""Seconds until nothing may be left in etcd, beside those that leases take to run out."""


def play(plan: Plan, folder: Path) -> None:
    """Play `plan`; the history is in `folder` afterwards."""
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(plan.dumps())
    journal = Recorder(folder / "round.jsonl", slot="", serial=0, manner="round")
    with EtcdCluster(plan.etcds) as cluster:
        gateway = Gateway([member.direct for member in cluster.members])
        witness = Witness(folder / "etcd.jsonl", gateway)
        Round(plan, folder, cluster, gateway, witness, journal).play()
        _clear(plan, gateway, journal)
        journal.write(what="witness", complete=witness.close())


class Round:
    """The processes of a job, and what befalls them and their etcd, until everybody has ended, or should have."""

    def __init__(
        self, plan: Plan, folder: Path, cluster: EtcdCluster, gateway: Gateway, witness: Witness, journal: Journal
    ) -> None:
        self._plan, self._cluster, self._witness, self._journal = plan, cluster, witness, journal
        ports = [lambda member=member: member.client_port for member in cluster.members]
        self._wires = Wires([task.task for task in plan.tasks], ports)
        self._calls = CallFiles(folder)
        self._crew = Crew(plan, folder, self._wires, journal, self._calls)
        self._began = now()
        self._looked = 0.0
        self._calm: float | None = None
        self._storms = Storms(cluster, self._wires, witness, journal, plan.faults, self._began)
        self._mishaps = Mishaps(
            self._crew, self._wires, self._calls, gateway, witness, journal, plan.faults, self._began
        )

    def play(self) -> None:
        """From the first start to the last end."""
        try:
            for task in self._plan.tasks:
                self._crew.start(task.task)
                time.sleep(self._plan.stagger)
            while not self._over():
                time.sleep(_POLL)
            self._calls.look([])
            for proc in list(self._crew.lasting()):
                self._journal.write(
                    what="lasting", slot=proc.slot, serial=proc.serial, at=now(), stacks=self._crew.abort(proc)
                )
        finally:
            self._storms.stop()
            self._storms.join()
            self._crew.close()
            self._wires.close()
        self._journal.write(what="ended-all", at=now())

    def _over(self) -> bool:
        """Do what is due; whether there is nothing more to wait for."""
        if self._mishaps.cues or now() >= self._looked + _LOOK:
            self._looked = now()
            self._calls.look(self._mishaps.cues)
        self._mishaps.look()
        self._crew.look()
        ended = self._witness.ended
        if ended is not None:
            self._crew.restarting = False
        if self._calm is None:
            if ended is not None or now() >= self._began + self._plan.calm:
                self._heal()
            return False
        if ended is not None and not list(self._crew.lasting()):
            return True
        return now() >= (self._calm + END if ended is None else max(ended, self._calm) + EXIT)

    def _heal(self) -> None:
        """End every fault; the one that etcd is in the middle of may take a while to be undone."""
        self._mishaps.stop()
        self._storms.stop()
        if self._storms.over:
            self._wires.heal()
            self._cluster.heal()
            self._crew.wake()
            self._calm = now()
            self._journal.write(what="calm", at=self._calm)


def _clear(plan: Plan, gateway: Gateway, journal: Journal) -> None:
    """Let the run go, and see what stays."""
    if not plan.fleeting:
        for lease in gateway.run_leases():
            gateway.revoke(lease)
    until = now() + CLEAR + 2 * plan.ttl + (4 * plan.ttl if plan.fleeting else 0)
    while (left := _left(plan, gateway)) != ([], []) and now() < until:
        time.sleep(0.1)
    journal.write(what="left", at=now(), keys=left and left[0], leases=left and left[1], stray=len(gateway.leases()))
    until = now() + AGREE
    while len(set(revisions := gateway.revisions())) > 1 and now() < until:
        time.sleep(0.1)
    journal.write(what="revisions", at=now(), revisions=revisions)


def _left(plan: Plan, gateway: Gateway) -> tuple[list[str], list[dict[str, int]]] | None:
    """The keys that there are, and the leases but those that were granted for the retention of a run that was founded by
    another one: they hold nothing, and run out by themselves. None when etcd does not say so."""
    found = gateway.kvs()
    if found is None:
        return None
    longest = 4 * plan.ttl if plan.fleeting else plan.ttl + 1
    return [kv["key"] for kv in found], [lease for lease in gateway.leases() if lease["granted"] <= longest]
