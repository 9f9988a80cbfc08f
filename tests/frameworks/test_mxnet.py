"""ps-lite, in MXNet's distributed KVStore: a scheduler, servers and workers find one another.

MXNet 1.9.1, the last one, needs a NumPy that the other frameworks do not take.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from frameworks.helpers import program, succeeded, told

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(300),
    pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="MXNet is in the tox environment launchers"),
]

# A scheduler or server serves while MXNet is imported, and ends there.
SUM = """
import mxnet
store = mxnet.kv.create("dist_sync")
store.init(1, mxnet.nd.zeros(2))
store.push(1, mxnet.nd.ones(2) * (store.rank + 1))
total = mxnet.nd.zeros(2)
store.pull(1, out=total)
print("rank", store.rank, "of", store.num_workers, "sum", *total.asnumpy().astype(int), flush=True)
"""


def test_servers_add_up_what_workers_push(tmp_path: Path) -> None:
    """Two of each, and the scheduler that introduces them; they end by themselves."""
    roles = ("--replicas", "scheduler=1,ps=2,worker=2", "--success", "scheduler,ps,worker")
    job = succeeded(tmp_path, None, "local", *roles, "--emit", "dmlc", *program(SUM))
    assert sorted(rank for _, rank in told(job, "rank ([01]) of 2 sum 3 3")) == ["0", "1"]
