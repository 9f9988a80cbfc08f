"""Round: one plan, played with real processes from the first start to the last lease."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

from faults.calls import CallFiles
from faults.crew import Crew
from faults.mishaps import Mishaps, kvs, revoke, run_leases
from faults.plan import Plan
from faults.recording import Recorder, now
from faults.storms import Storms
from faults.wires import Wires
from faults.witness import Witness, ask
from psbarrier.etcd_cluster import EtcdCluster

_POLL = 0.02
END = 45.0
"""Seconds from the end of the last fault until the job must be over."""
EXIT = 20.0
"""Seconds from the job's end until all of its processes must have ended by themselves."""
CLEAR = 12.0
"""Seconds until nothing may be left in etcd, beside those that leases take to run out."""


def play(plan: Plan, folder: Path) -> None:
    """Play `plan`; the history is in `folder` afterwards."""
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(plan.dumps())
    journal = Recorder(folder / "round.jsonl", slot="", serial=0, manner="round")
    with EtcdCluster(plan.etcds) as cluster:
        addresses = [member.direct for member in cluster.members]
        ports = [lambda member=member: member.client_port for member in cluster.members]
        witness = Witness(folder / "etcd.jsonl", addresses)
        wires = Wires([task.task for task in plan.tasks], ports)
        calls = CallFiles(folder)
        crew = Crew(plan, folder, wires, journal, calls)
        began = now()
        journal.write(what="began", at=began)
        storms = Storms(cluster, wires, witness, journal, plan.faults, began)
        try:
            for task in plan.tasks:
                crew.start(task.task)
                time.sleep(plan.stagger)
            mishaps = Mishaps(crew, wires, calls, addresses, witness, journal, plan.faults, began)
            _watch(plan, began, witness, calls, crew, mishaps, storms, wires, cluster, journal)
        finally:
            storms.stop()
            storms.join()
            crew.close()
        journal.write(what="ended-all", at=now())
        _clear(plan, addresses, journal)
        journal.write(what="witness", complete=witness.close())
        wires.close()


def _watch(
    plan: Plan,
    began: float,
    witness: Witness,
    calls: CallFiles,
    crew: Crew,
    mishaps: Mishaps,
    storms: Storms,
    wires: Wires,
    cluster: EtcdCluster,
    journal: Recorder,
) -> None:
    """Until everybody has ended, or should have."""
    calm: float | None = None
    while True:
        calls.look(mishaps.cues)
        mishaps.look()
        crew.look()
        if calm is None and (witness.ended or now() >= began + plan.calm):
            mishaps.stop()
            storms.stop()
            if storms.over:
                wires.heal()
                cluster.heal()
                crew.wake()
                calm = now()
                journal.write(what="calm", at=calm)
        if witness.ended:
            crew.restarting = False
        if calm is not None:
            limit = witness.ended + EXIT if witness.ended else calm + END
            if not list(crew.lasting()) and witness.ended:
                break
            if now() >= max(limit, calm + EXIT):
                break
        time.sleep(_POLL)
    crew.look()
    calls.look([])
    for proc in crew.lasting():
        journal.write(what="lasting", slot=proc.slot, serial=proc.serial, at=now())


def _clear(plan: Plan, addresses: list[str], journal: Recorder) -> None:
    """Let the run go, and see what stays."""
    runs = sorted(run_leases(addresses))
    journal.write(what="clearing", at=now(), runs=runs)
    if not plan.fleeting:
        for lease in runs:
            revoke(addresses, lease)
    until = now() + CLEAR + 2 * plan.ttl + (4 * plan.ttl if plan.fleeting else 0)
    while (left := _left(plan, addresses)) != ([], []) and now() < until:
        time.sleep(0.1)
    journal.write(what="left", at=now(), keys=left and left[0], leases=left and left[1], stray=len(_leases(addresses)))


def _left(plan: Plan, addresses: list[str]) -> tuple[list[str], list[dict[str, int]]] | None:
    """The keys that there are, and the leases but those that were granted for the retention of a run that was founded by
    another one: they hold nothing, and run out by themselves. None when etcd does not say so."""
    found = kvs(addresses)
    if found is None:
        return None
    longest = 4 * plan.ttl if plan.fleeting else plan.ttl + 1
    return [kv["key"] for kv in found], [lease for lease in _leases(addresses) if lease["granted"] <= longest]


def _leases(addresses: list[str]) -> list[dict[str, int]]:
    found = []
    for address in addresses:
        try:
            for lease in ask(address, "lease/leases").get("leases", []):
                how = ask(address, "lease/timetolive", ID=lease["ID"])
                if int(how.get("TTL", -1)) > 0:
                    found.append({"lease": int(lease["ID"]), "ttl": int(how["TTL"]), "granted": int(how["grantedTTL"])})
        except (OSError, http.client.HTTPException, ValueError):
            continue
        else:
            return found
    return found
