"""Storms: what befalls etcd, one after the other, on a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import partial

from faults.plan import Fault
from faults.recording import Journal, now
from faults.wires import Wires
from faults.witness import Witness
from psbarrier.errors import PsBarrierError
from psbarrier.etcd_cluster import EtcdCluster

_AGREE = 6.0
"""Seconds that the etcds have to agree on a leader before one is befallen."""
Undo = Callable[[], None]
KINDS = {"kill", "stop", "pause", "partition", "slow", "isolate", "compact", "defragment", "depose"}


class Storms:
    """Brings the faults of etcd about, each at its time after `began`."""

    def __init__(
        self,
        cluster: EtcdCluster,
        wires: Wires,
        witness: Witness,
        journal: Journal,
        faults: Sequence[Fault],
        began: float,
    ) -> None:
        self._cluster, self._wires, self._witness, self._journal = cluster, wires, witness, journal
        self._faults, self._began = [fault for fault in faults if fault.kind in KINDS], began
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storms")
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether the last one has passed."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Undo the present one at once, and begin no other."""
        self._enough.set()

    def join(self) -> None:
        """Wait until the last one has passed."""
        self._thread.join()

    def _run(self) -> None:
        for fault in self._faults:
            if self._enough.wait(max(0.0, self._began + fault.at - now())):
                return
            begin = now()
            try:
                victims = self._victims(fault)
                undo = self._begin(fault, victims)
            except PsBarrierError as error:
                self._journal.write(what="skipped", kind=fault.kind, at=begin, why=str(error)[:200])
                continue
            self._enough.wait(max(0.0, begin + fault.lasts - now()))
            with contextlib.suppress(PsBarrierError):
                undo()
            self._journal.write(what="fault", kind=self._name(fault), begin=begin, end=now(), victims=victims)

    def _name(self, fault: Fault) -> str:
        silent = "silent " if fault.silent and fault.kind in ("partition", "isolate") else ""
        whom = "" if fault.kind in ("compact", "defragment") else f" {fault.target}"
        return f"etcd: {silent}{fault.kind}{whom}"

    def _victims(self, fault: Fault) -> list[int]:
        everyone = list(range(len(self._cluster.members)))
        if fault.target == "all" or len(everyone) == 1:
            return everyone
        if fault.target.isdigit():
            return [int(fault.target)]
        leader = self._cluster.leader(_AGREE)
        return [leader] if fault.target == "leader" else [(leader + 1) % len(everyone)]

    def _begin(self, fault: Fault, victims: list[int]) -> Undo:
        match fault.kind:
            case "kill" | "stop":
                for victim in victims:
                    member = self._cluster.members[victim]
                    member.kill() if fault.kind == "kill" else member.stop()
                return self._cluster.start
            case "pause":
                for victim in victims:
                    self._cluster.members[victim].pause()
                return partial(self._resume, victims)
            case "partition":
                self._cluster.partition(*([victim] for victim in victims), silent=fault.silent)
                return self._cluster.heal
            case "slow":
                self._cluster.slow(fault.size)
                return self._cluster.heal
            case "isolate":
                for victim in victims:
                    self._wires.isolate(victim, silent=fault.silent)
                return self._wires.heal
            case "depose":
                return self._depose(victims[0])
            case "compact":
                self._cluster.compact(self._witness.complete)
            case "defragment":
                self._cluster.defragment(victims[0])
        return lambda: None

    def _resume(self, victims: list[int]) -> None:
        for victim in victims:
            self._cluster.members[victim].resume()

    def _depose(self, leader: int) -> Undo:
        """A leader is frozen until its successor leads; when it goes on, it is the only one that clients reach, for a moment."""
        self._cluster.members[leader].pause()
        self._cluster.partition({leader}, silent=True)
        others = [index for index in range(len(self._cluster.members)) if index != leader]

        def undo() -> None:
            for other in others:
                self._wires.isolate(other, silent=False)
            self._cluster.members[leader].resume()
            self._enough.wait(2.0)
            self._cluster.heal()
            self._wires.heal()

        return undo
