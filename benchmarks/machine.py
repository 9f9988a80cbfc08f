"""The machine that a benchmark ran on: without these facts its figures say nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from psbarrier.embedded import EtcdServer

# The pages of one more process that imports a module: its own ones, not those of files that all of them share.
_PROBE = "import {0}; print(open('/proc/self/smaps_rollup').read())"
_SHARE = 0.8  # of the free memory may be taken
_PACKAGES = ("psbarrier", "grpcio", "protobuf", "etcd3", "kazoo", "torch", "paddlepaddle")


def facts(**versions: str) -> dict[str, Any]:
    """Cores, memory, load, and the versions of all that takes part; `versions` are those that no Python package has."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "versions": {**_installed(), "etcd": ".".join(map(str, EtcdServer().version)), **versions},
    }


def _installed() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """What all threads that these processes have now have taken of processors, to the nanosecond; 0 where nobody tells.

    proc(5) does not describe it; Documentation/scheduler/sched-stats.rst of Linux does: the first number of a task.
    """
    files = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(_seconds, files))


def thread_seconds() -> dict[int, float]:
    """The same for each thread of this process, by its number in the kernel."""
    files = Path("/proc/self/task").glob("*/schedstat")
    return {int(file.parent.name): _seconds(file) for file in files}


def _seconds(schedstat: Path) -> float:
    try:
        return int(schedstat.read_text(encoding="ascii").split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return 0.0


def obstacle(module: str, processes: int) -> str | None:
    """Why so many processes that import `module` cannot run here; None where they can."""
    if importlib.util.find_spec(module) is None:
        return f"the Python package of {module} is not installed"
    if not sys.platform.startswith("linux"):
        return None
    probe = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROBE.format(module)], capture_output=True, text=True
    )
    if probe.returncode:
        return f"{module} cannot be imported: {probe.stderr.strip().splitlines()[-1]}"
    needed, free = processes * _kilobytes(probe.stdout, "Private_") / 2**20, _available_memory() / 2**20
    if needed > free * _SHARE:
        return f"{processes} processes that import {module} take {needed:.0f} GB, and {free:.0f} GB are free"
    return None


def _available_memory() -> int:
    """Kilobytes that new processes may take before the machine runs out of memory."""
    return _kilobytes(Path("/proc/meminfo").read_text(encoding="ascii"), "MemAvailable:")


def _kilobytes(text: str, label: str) -> int:
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(label))
