"""The shortest whole job over a real etcd: what must work under every protobuf."""

from __future__ import annotations

import uuid

import psbarrier
from psbarrier.embedded import EtcdServer


def test_a_job_of_one_joins_meets_shares_and_succeeds(etcd: EtcdServer) -> None:
    """Registration, seal, watch, barrier, shared value and end all pass through protobuf and back."""
    job = f"round-{uuid.uuid4().hex[:8]}"
    with psbarrier.join(
        etcd.endpoint, job, "worker", 0, replicas={"worker": 1}, address="127.0.0.1:2222", meta={"gpu": "ü"}
    ) as me:
        cluster = me.cluster(timeout=30)
        barrier = me.barrier("epoch")
        order = [barrier.wait(timeout=30) for _ in range(3)]
        me.share("seed", [1, 2.5, None, "ö"])
        shared = me.get("seed", timeout=30)
        me.finish()
        state = me.wait_job(timeout=30)
    assert cluster.as_dict() == {"worker": ["127.0.0.1:2222"]}
    assert cluster.member(me.task).meta == {"gpu": "ü"}
    assert order == [0, 0, 0]
    assert barrier.generation == 3
    assert shared == [1, 2.5, None, "ö"]
    assert state.phase == "succeeded"
