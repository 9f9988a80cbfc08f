"""The machine that a benchmark ran on: without these facts its figures say nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from psbarrier.embedded import EtcdServer

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


def available_memory() -> int:
    """Bytes that new processes may take before the machine runs out of memory; Linux only."""
    return _kilobytes("/proc/meminfo", "MemAvailable:") * 1024


def private_memory(pid: int) -> int:
    """Bytes that one more process like `pid` takes: its own pages, not those of files that all share; Linux only."""
    path = f"/proc/{pid}/smaps_rollup"
    return (_kilobytes(path, "Private_Clean:") + _kilobytes(path, "Private_Dirty:")) * 1024


def _kilobytes(path: str, label: str) -> int:
    with open(path, encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(label))
