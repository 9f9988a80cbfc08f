"""psbarrier and a framework in one process: both bring gRPC and protobuf, in C, and only one of them can come first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from psbarrier.embedded import EtcdServer

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]

FRAMEWORKS = ("jax", "paddle", "tensorflow", "torch", "xgboost")

BEFORE = """
import sys, importlib, psbarrier
with psbarrier.connect(sys.argv[1], timeout=60) as store:
    importlib.import_module(sys.argv[2])
    with psbarrier.join(store, "before", "worker", replicas={"worker": 1}) as me:
        print(me.cluster().epoch)
"""
AFTER = """
import sys, importlib
importlib.import_module(sys.argv[2])
import psbarrier
with psbarrier.join(sys.argv[1], "after", "worker", replicas={"worker": 1}) as me:
    print(me.cluster().epoch)
"""


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("program", [BEFORE, AFTER], ids=["psbarrier first", "framework first"])
def test_a_process_may_import_both_in_any_order(etcd: EtcdServer, framework: str, program: str) -> None:
    """And a member joins a job on a real etcd, passes the gate and finishes, with the framework loaded."""
    program = program.replace('"before"', f'"before-{framework}"').replace('"after"', f'"after-{framework}"')
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PSBARRIER_")}
    said = subprocess.run(
        [sys.executable, "-c", program, etcd.endpoint, framework], env=clean, capture_output=True, text=True
    )
    assert (said.returncode, said.stdout.split()[-1:]) == (0, ["1"]), said.stderr
