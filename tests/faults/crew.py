"""Crew: the processes of a job, started again by a supervisor after every end but a good one, and what befalls them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from faults.calls import CallFiles
from faults.plan import Plan
from faults.recording import Journal, now
from faults.wires import Wires
from psbarrier.sitter import Sitter

GOOD = {0, 21, 110}
"""How a process ends that is not to be started again: its task is done, or the job is over."""
_ABORTING = 2.0
"""Seconds to write down what all threads do."""


def environment() -> dict[str, str]:
    """Ours, in which these modules are found, and nothing is said about psbarrier except which etcd to run."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PSBARRIER_")}
    etcd = {name: value for name, value in os.environ.items() if name == "PSBARRIER_ETCD"}
    return {**ours, **etcd, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONFAULTHANDLER": "1"}


class Proc:
    """One process that the supervisor has started."""

    def __init__(self, slot: str, serial: int, manner: str, popen: subprocess.Popen[bytes]) -> None:
        self.slot, self.serial, self.manner, self.popen = slot, serial, manner, popen
        self.stopped: set[int] = set()


class Crew:
    """For one thread."""

    def __init__(self, plan: Plan, folder: Path, wires: Wires, journal: Journal, calls: CallFiles) -> None:
        self._plan, self._folder, self._wires, self._journal, self._calls = plan, folder, wires, journal, calls
        self._rng = random.Random(f"crew {plan.seed} {plan.round}")
        self._sitter = Sitter()
        self._serial = 0
        self._again: dict[str, float] = {}
        self.procs: list[Proc] = []
        self.done: set[str] = set()
        self.restarting = True

    def start(self, slot: str, manner: str = "") -> None:
        """A new process for the task."""
        self._serial += 1
        plan = self._plan.task(slot)
        manner = manner or ("guardian" if plan.guarded else "bare")
        command = [sys.executable, "-m", "faults.program", str(self._folder), slot, str(self._serial), manner]
        with open(self._out(slot, self._serial, manner), "wb") as out:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**environment(), "PSBARRIER_ENDPOINTS": self._wires.endpoints(slot, self._serial)},
                start_new_session=True,
            )
        self._sitter.guard(popen.pid, grace=0.0)
        self.procs.append(Proc(slot, self._serial, manner, popen))
        self._journal.write(what="started", slot=slot, serial=self._serial, manner=manner, pid=popen.pid, at=now())

    def _out(self, slot: str, serial: int, manner: str) -> Path:
        return self._folder / f"out-{slot.replace('/', '-')}-{serial}-{manner}.txt"

    def look(self) -> None:
        """Reap who has ended, and start again whoever should be."""
        for proc in [proc for proc in self.procs if proc.popen.poll() is not None]:
            self._reaped(proc)
        if self.restarting:
            for slot in [slot for slot, at in self._again.items() if now() >= at]:
                del self._again[slot]
                self.start(slot)

    def _reaped(self, proc: Proc) -> None:
        self.procs.remove(proc)
        self._sitter.forget(proc.popen.pid)
        code = proc.popen.returncode
        self._journal.write(what="ended", slot=proc.slot, serial=proc.serial, code=code, at=now())
        if code in GOOD:
            self.done.add(proc.slot)
        elif not any(other.slot == proc.slot for other in self.procs):
            # One that cannot even start is not started all the time.
            rest = 3.0 if code == 1 else self._rng.uniform(0.05, 0.6)
            self._again.setdefault(proc.slot, now() + rest)

    def send(self, slot: str, number: int, *, inner: bool) -> bool:
        """Send a signal to the newest process of the task, or to the command inside it; False if there is none."""
        proc = next((proc for proc in reversed(self.procs) if proc.slot == slot), None)
        if proc is None:
            return False
        pid = proc.popen.pid
        if proc.manner == "guardian" and inner:
            child = self._calls.pid(slot, proc.serial, "child")
            if child is None:
                return False
            pid = child
        if number == signal.SIGSTOP:
            proc.stopped.add(pid)
        self._journal.write(what="signal", slot=slot, serial=proc.serial, pid=pid, number=number, at=now())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    def wake(self) -> None:
        """Let every process go on that was stopped."""
        for proc in self.procs:
            for pid in proc.stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                self._journal.write(what="signal", slot=proc.slot, pid=pid, number=int(signal.SIGCONT), at=now())
            proc.stopped.clear()

    def lasting(self) -> Iterator[Proc]:
        """Who still runs."""
        return (proc for proc in self.procs if proc.popen.poll() is None)

    def abort(self, proc: Proc) -> str:
        """End a process that should have ended, and first its command; what their threads were doing, newest call first."""
        path = self._out(proc.slot, proc.serial, proc.manner)
        before = path.stat().st_size
        child = self._calls.pid(proc.slot, proc.serial, "child")
        for pid in (child, proc.popen.pid):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGABRT)  # Python's faulthandler writes the stacks, even of one that is exiting
        with contextlib.suppress(subprocess.TimeoutExpired):
            proc.popen.wait(_ABORTING)
        return path.read_bytes()[before:].decode(errors="replace")

    def _end_orphan(self, pid: int) -> None:
        """A command outlives its guardian for a moment."""
        with contextlib.suppress(OSError):
            if str(self._folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End everybody at once."""
        self.restarting = False
        self.wake()
        for proc in self.procs:
            self._journal.write(what="killed", slot=proc.slot, serial=proc.serial, at=now())
            with contextlib.suppress(ProcessLookupError):
                os.killpg(proc.popen.pid, signal.SIGKILL)
            proc.popen.wait()
        for pid in self._calls.pids:
            self._end_orphan(pid)
        self.look()
        self._sitter.close()
