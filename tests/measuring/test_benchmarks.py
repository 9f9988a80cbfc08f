"""Each benchmark runs, over real etcds, with those of its contestants that are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.group import ROOT
from benchmarks.table import quantity

pytestmark = pytest.mark.e2e

SMALLEST = {
    "barrier": (["--processes", "2", "--rounds", "2"], {"psbarrier", "bare loop"}),
    "barrier_profile": (["--rounds", "2", "--pause", "0"], {"gRPC's call", "thread: of the call"}),
    "start_profile": (["--processes", "2", "--rounds", "1"], {"gRPC's connection", "thread: of the calls"}),
    "group_start": (
        ["--processes", "2", "--rounds", "1", "--contestants", "psbarrier", "bare start"],
        {"psbarrier", "bare start"},
    ),
    "detection": (
        ["--rounds", "1", "--others", "2", "--ways", "SIGKILL of the command of psbarrier run", "leave()"],
        {"SIGKILL of the command of psbarrier run", "leave()"},
    ),
    "failover": (["--rounds", "1", "--members", "2"], {"a barrier of all", "a new job of one task"}),
    "scale": (
        ["--members", "4", "--processes", "2", "--barriers", "2"],
        {"start", "barrier", "end", "barrier, events"},
    ),
    "footprint": (
        ["--rounds", "1", "--crowd", "2", "--seconds", "0.5"],
        {"import psbarrier", "memory, MB", "Python threads", "Python threads, of the leader", "idle requests a minute"},
    ),
    "restart": (["--members", "2", "--rounds", "1"], {"psbarrier"}),
    "auth_start": (["--members", "2", "--processes", "1"], {"start, without logins", "start, with a login each"}),
}


SLOW = {"auth_start", "detection", "failover", "group_start"}
"""They wait for etcd more than for us."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SMALLEST])
def test_a_benchmark_prints_its_results_as_json(name: str) -> None:
    """Samples with a unit for each contestant that is there, and for the others why they are not."""
    arguments, contestants = SMALLEST[name]
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    reports: list[dict[str, Any]] = json.loads(run.stdout)
    results = [result for report in reports for result in report["results"]]
    assert {result["name"] for result in results} >= contestants
    assert all(result["samples"] and quantity(result["median"], result["unit"]) for result in results)
    assert reports[0]["machine"]["versions"].keys() >= {"psbarrier", "etcd"}
