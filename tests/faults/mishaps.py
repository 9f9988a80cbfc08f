"""Mishaps: what befalls single tasks, and leases; each at its time, and undone at its time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from faults.calls import CallFiles
from faults.crew import Crew
from faults.gateway import Gateway
from faults.plan import Cue, Fault
from faults.recording import Journal, now
from faults.storms import KINDS
from faults.wires import Wires
from faults.witness import Witness

_SIGNALS = {
    "sigkill": signal.SIGKILL,
    "sigterm": signal.SIGTERM,
    "sigint": signal.SIGINT,
    "sigstop": signal.SIGSTOP,
}
Undo = Callable[[], None]


class Mishaps:
    """For one thread, which calls `look()` often."""

    def __init__(
        self,
        crew: Crew,
        wires: Wires,
        calls: CallFiles,
        gateway: Gateway,
        witness: Witness,
        journal: Journal,
        faults: Sequence[Fault],
        began: float,
    ) -> None:
        self._crew, self._wires, self._calls, self._gateway = crew, wires, calls, gateway
        self._witness, self._journal, self._began = witness, journal, began
        self._to_come = [fault for fault in faults if fault.kind not in KINDS]
        self._present: list[tuple[Fault, float, Undo]] = []

    @property
    def over(self) -> bool:
        """Whether the last one has passed."""
        return not self._present and not self._to_come

    @property
    def cues(self) -> list[Cue]:
        """The moments for which some of them wait."""
        return [fault.cue for fault in self._to_come if fault.cue is not None]

    def look(self) -> None:
        """Begin and undo what is due."""
        for present in [present for present in self._present if now() >= present[1] + present[0].lasts]:
            self._end(present)
        for fault in [fault for fault in self._to_come if (due := self._due(fault)) is not None and now() >= due]:
            self._to_come.remove(fault)
            begin = now()
            undo = self._begin(fault)
            if undo is None:
                self._journal.write(what="skipped", kind=fault.kind, at=begin, why="nobody was there")
            else:
                self._present.append((fault, begin, undo))

    def stop(self) -> None:
        """Undo what is present, and begin nothing more."""
        self._to_come.clear()
        for present in list(self._present):
            self._end(present)

    def _due(self, fault: Fault) -> float | None:
        if fault.cue is None:
            return self._began + fault.at
        cued = self._calls.cued(fault.cue)
        return None if cued is None else cued + fault.at

    def _end(self, present: tuple[Fault, float, Undo]) -> None:
        fault, begin, undo = present
        self._present.remove(present)
        undo()
        name = f"silent {fault.kind}" if fault.silent and fault.kind == "cut" else fault.kind
        self._journal.write(what="fault", kind=f"task: {name}", begin=begin, end=now(), victims=[fault.target])

    def _begin(self, fault: Fault) -> Undo | None:
        slot = fault.target
        if fault.kind in _SIGNALS:
            sent = self._crew.send(slot, _SIGNALS[fault.kind], inner=fault.inner)
            return (self._crew.wake if fault.kind == "sigstop" else _nothing) if sent else None
        match fault.kind:
            case "cut":
                self._wires.cut(slot, silent=fault.silent)
                return lambda: self._wires.join(slot)
            case "delay":
                self._wires.slow(slot, fault.size)
                return lambda: self._wires.slow(slot, 0.0)
            case "usurp":
                self._crew.start(slot, "usurper")
                return _nothing
            case "revoke":
                lease = self._calls.leases.get(slot)
                return _nothing if lease is not None and self._revoke(lease) else None
            case "forget":
                return _nothing if self._gateway.compact(self._witness.complete) else None
            case _:
                assert fault.kind == "revoke-run"
                revoked = [self._revoke(lease) for lease in self._gateway.run_leases()]
                return _nothing if any(revoked) else None

    def _revoke(self, lease: int) -> bool:
        self._journal.write(what="revoke", lease=lease, at=now())
        return self._gateway.revoke(lease)


def _nothing() -> None:
    """What ends by itself."""
