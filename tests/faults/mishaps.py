"""Mishaps: what befalls single tasks, and leases; each at its time, and undone at its time."""

from __future__ import annotations

import contextlib
import http.client
import signal
from collections.abc import Callable, Sequence
from typing import Any

from faults.calls import CallFiles
from faults.crew import Crew
from faults.plan import JOB, Cue, Fault
from faults.recording import Journal, now
from faults.storms import KINDS
from faults.wires import Wires
from faults.witness import EVERYTHING, Witness, ask, text_of

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
        addresses: Sequence[str],
        witness: Witness,
        journal: Journal,
        faults: Sequence[Fault],
        began: float,
    ) -> None:
        self._crew, self._wires, self._calls, self._addresses = crew, wires, calls, addresses
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
                return _nothing if compact(self._addresses, self._witness.complete) else None
            case _:
                assert fault.kind == "revoke-run"
                revoked = [self._revoke(lease) for lease in run_leases(self._addresses)]
                return _nothing if any(revoked) else None

    def _revoke(self, lease: int) -> bool:
        self._journal.write(what="revoke", lease=lease, at=now())
        return revoke(self._addresses, lease)


def _nothing() -> None:
    """What ends by itself."""


def revoke(addresses: Sequence[str], lease: int) -> bool:
    """End a lease; whether there was an etcd that could."""
    return _done(addresses, "lease/revoke", ID=str(lease))


def compact(addresses: Sequence[str], revision: int) -> bool:
    """Let etcd forget what was before; whether there was an etcd that could."""
    return _done(addresses, "kv/compaction", revision=str(revision), physical=True)


def _done(addresses: Sequence[str], verb: str, **fields: str | bool) -> bool:
    for address in addresses:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if "header" in ask(address, verb, **fields):
                return True
    return False


def kvs(addresses: Sequence[str]) -> list[dict[str, Any]] | None:
    """Every key that there is; None when no etcd says so."""
    for address in addresses:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            said = ask(address, "kv/range", **EVERYTHING)
            if "header" in said:
                return [{**kv, "key": text_of(kv["key"])} for kv in said.get("kvs", [])]
    return None


def run_leases(addresses: Sequence[str]) -> set[int]:
    """The leases of the runs that there are."""
    found = kvs(addresses) or []
    return {int(kv.get("lease", 0)) for kv in found if f"/{JOB}/runs/" in kv["key"] and kv["key"].endswith("/config")}
