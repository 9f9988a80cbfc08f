"""Formats of parameter servers: which of our roles is which of theirs, and what they refuse."""

from __future__ import annotations

import pytest

from emit.helpers import spec_of
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, Task


def test_ps_lite_has_three_roles() -> None:
    """As docs/env.md of dmlc/ps-lite has them: all know the scheduler, and how many of each there are."""
    spec = spec_of("10.0.0.{index}", scheduler=1, ps=2, worker=3)
    common = {
        "DMLC_PS_ROOT_URI": "10.0.0.0",
        "DMLC_PS_ROOT_PORT": "2222",
        "DMLC_NUM_SERVER": "2",
        "DMLC_NUM_WORKER": "3",
    }
    assert spec.env("dmlc", Task("scheduler", 0)) == common | {
        "DMLC_ROLE": "scheduler",
        "DMLC_NODE_HOST": "10.0.0.0",
    }
    assert spec.env("dmlc", Task("ps", 1)) == common | {
        "DMLC_ROLE": "server",
        "DMLC_SERVER_ID": "1",
        "DMLC_NODE_HOST": "10.0.0.1",
    }
    assert spec.env("dmlc", Task("worker", 2)) == common | {
        "DMLC_ROLE": "worker",
        "DMLC_WORKER_ID": "2",
        "DMLC_NODE_HOST": "10.0.0.2",
    }


def test_ps_lite_listens_on_ip_addresses_only() -> None:
    """ZeroMQ binds to no name: a server finds its own address then, and the scheduler listens on all of its own."""
    said = spec_of(scheduler=1, server=1, worker=1).env("dmlc", Task("server", 0))
    assert "DMLC_NODE_HOST" not in said
    assert (said["DMLC_PS_ROOT_URI"], said["DMLC_USE_KUBERNETES"]) == ("scheduler-0", "1")


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"ps": 1, "worker": 1}, "exactly one scheduler, and this cluster has 0"),
        ({"scheduler": 2, "ps": 1, "worker": 1}, "exactly one scheduler, and this cluster has 2"),
        ({"scheduler": 1, "worker": 1}, "at least one server"),
        ({"scheduler": 1, "ps": 1}, "at least one worker"),
        ({"scheduler": 1, "ps": 1, "server": 1, "worker": 1}, "are the same"),
        ({"scheduler": 1, "ps": 1, "chief": 1, "worker": 1}, "not 'chief'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_cluster_that_ps_lite_would_refuse_is_refused_here(counts: dict[str, int], why: str) -> None:
    """With its rule, before any process is started."""
    spec = spec_of(**counts)
    with pytest.raises(InvalidArgumentError, match=why):
        spec.env("dmlc", spec.members[0].task)


def test_ps_lite_speaks_ipv4_only() -> None:
    """Its ZeroMQ sockets never get the option for IPv6 (src/zmq_van.h)."""
    spec = spec_of("[::{index}]", scheduler=1, ps=1, worker=1)
    with pytest.raises(InvalidArgumentError, match="IPv4 only"):
        spec.env("dmlc", Task("ps", 0))


def test_paddle_with_servers_tells_each_its_role() -> None:
    """A PSERVER finds POD_IP:PADDLE_PORT in the list; the chief is trainer 0."""
    spec = spec_of(chief=1, ps=2, worker=2)
    common = {
        "PADDLE_PSERVERS_IP_PORT_LIST": "ps-0:2222,ps-1:2223",
        "PADDLE_PSERVER_NUMS": "2",
        "PADDLE_TRAINER_ENDPOINTS": "chief-0:2222,worker-0:2222,worker-1:2223",
        "PADDLE_TRAINERS_NUM": "3",
    }
    assert spec.env("paddle", Task("ps", 1)) == common | {
        "TRAINING_ROLE": "PSERVER",
        "POD_IP": "ps-1",
        "PADDLE_PORT": "2223",
        "PADDLE_CURRENT_ENDPOINT": "ps-1:2223",
    }
    assert spec.env("paddle", Task("worker", 1)) == common | {
        "TRAINING_ROLE": "TRAINER",
        "PADDLE_TRAINER_ID": "2",
        "POD_IP": "worker-1",
        "PADDLE_PORT": "2223",
        "PADDLE_CURRENT_ENDPOINT": "worker-1:2223",
    }


def test_paddle_without_servers_is_a_collective() -> None:
    """As paddle.distributed.launch sets it (distributed/launch/controllers/collective.py)."""
    spec = ClusterSpec.from_addresses({"worker": ["a:1", "b:1", "a:2"]})
    assert spec.env("paddle", Task("worker", 2)) == {
        "PADDLE_MASTER": "a:1",
        "PADDLE_TRAINER_ENDPOINTS": "a:1,b:1,a:2",
        "PADDLE_TRAINERS_NUM": "3",
        "PADDLE_TRAINER_ID": "2",
        "PADDLE_CURRENT_ENDPOINT": "a:2",
        "PADDLE_GLOBAL_SIZE": "3",
        "PADDLE_GLOBAL_RANK": "2",
        "PADDLE_LOCAL_SIZE": "2",
        "PADDLE_LOCAL_RANK": "1",
        "PADDLE_RANK_IN_NODE": "1",
        "PADDLE_NNODES": "2",
        "PADDLE_TRAINING_ROLE": "TRAINER",
        "POD_IP": "a",
        "PADDLE_PORT": "2",
    }


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"ps": 1}, "at least one trainer"),
        ({"ps": 1, "pserver": 1, "worker": 1}, "all PSERVER"),
        ({"ps": 1, "evaluator": 1, "worker": 1}, "not 'evaluator'"),
        ({"ps": 1, "chief": 2}, "would both be"),
        ({"evaluator": 1, "worker": 1}, "no part for the role 'evaluator'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_cluster_that_paddle_would_refuse_is_refused_here(counts: dict[str, int], why: str) -> None:
    """With its rule, before any process is started."""
    spec = spec_of(**counts)
    with pytest.raises(InvalidArgumentError, match=why):
        spec.env("paddle", spec.members[0].task)
