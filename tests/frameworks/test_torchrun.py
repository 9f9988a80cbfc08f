"""torchrun's rendezvous on psbarrier: what torch expects of any of its rendezvous, and an elastic training by it.

The scenarios are those of torch's own tests of its dynamic rendezvous (test/distributed/elastic/rendezvous/): join, join
again, come late, grow, shrink, die, close, time out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers import eventually
from jobs import PATIENCE, call, raised, returned

from psbarrier.embedded import EtcdServer
from psbarrier.errors import InvalidArgumentError, StoreUnavailableError
from psbarrier.store.etcd import EtcdStore

pytestmark = pytest.mark.frameworks

LONG = 120.0
"""Seconds for what imports torch."""


class Nodes:
    """The nodes of one torchrun job, all in this process."""

    def __init__(self, etcd: EtcdServer) -> None:
        self.etcd, self.job = etcd, f"j{uuid.uuid4().hex[:12]}"
        self.handlers: list[Any] = []

    def node(self, least: int, most: int, **options: Any) -> Any:
        """One node's handler, as torchrun makes it."""
        from torch.distributed.elastic.rendezvous import RendezvousParameters
        from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

        given = {"join_timeout": "60", "last_call_timeout": "0.5", "settling": "0.3", "ttl": "5", "timeout": 900}
        parameters = RendezvousParameters(
            "psbarrier", self.etcd.endpoint, self.job, least, most, "127.0.0.1", **{**given, **options}
        )
        handler = get_rendezvous_handler(parameters)
        self.handlers.append(handler)
        return handler

    def nodes(self, count: int, least: int, most: int, **options: Any) -> list[Any]:
        return [self.node(least, most, **options) for _ in range(count)]


@pytest.fixture
def nodes(etcd: EtcdServer) -> Iterator[Nodes]:
    made = Nodes(etcd)
    yield made
    for handler in made.handlers:
        handler.shutdown()


def meet(*handlers: Any) -> list[Any]:
    """What the next rendezvous tells each of them, in their order."""
    waiting = [call(handler.next_rendezvous) for handler in handlers]
    return [returned(future) for future in waiting]


def check(found: list[Any], world: int | None = None) -> None:
    """They are one world, each of them has a rank, and they can talk."""
    assert {info.world_size for info in found} == {world or len(found)}
    assert sorted(info.rank for info in found) == list(range(len(found)))
    assert len({(i.bootstrap_store_info.master_addr, i.bootstrap_store_info.master_port) for i in found}) == 1
    for info in found:
        info.store.set(f"rank{info.rank}", str(info.rank))
    for info in found:
        for other in range(len(found)):
            assert info.store.get(f"rank{other}") == str(other).encode()


def detect(*handlers: Any) -> None:
    """Each of them is told that it must meet the others again, as its agent finds out by asking now and then."""
    for handler in handlers:
        assert eventually(lambda: handler.num_nodes_waiting() > 0, PATIENCE)  # noqa: B023


def error_of(future: Future[Any], kind: str) -> BaseException:
    error = raised(future)
    assert type(error).__name__ == kind, error
    return error


# -- the scenarios


def test_it_is_what_the_backend_psbarrier_means(nodes: Nodes) -> None:
    """torch finds it by the entry point, in an installed psbarrier."""
    handler = nodes.node(1, 1)
    assert (handler.get_backend(), handler.get_run_id()) == ("psbarrier", nodes.job)
    assert handler.use_agent_store
    assert handler.num_nodes_waiting() == 0
    assert not handler.is_closed()


@pytest.mark.parametrize("count", [1, 3])
def test_the_most_nodes_meet_at_once(nodes: Nodes, count: int) -> None:
    """However long the last call would be."""
    check(meet(*nodes.nodes(count, 1, count, last_call_timeout="3600")))


def test_the_least_nodes_meet_after_a_last_call(nodes: Nodes) -> None:
    """And nobody waits for more."""
    found = meet(*nodes.nodes(2, 2, 4))
    check(found)


def test_they_meet_again_when_their_workers_must_start_anew(nodes: Nodes) -> None:
    """With the same ranks, another store, and nothing of the round before in it."""
    handlers = nodes.nodes(3, 2, 3)
    before = meet(*handlers)
    check(before)
    after = meet(*handlers)
    assert not any(info.store.check(["rank7"]) for info in after)
    before[0].store.set("rank7", "old")
    check(after)
    assert not any(info.store.check(["rank7"]) for info in after)
    ports = [info[0].bootstrap_store_info.master_port for info in (before, after)]
    assert ports[0] != ports[1]


def test_one_whose_workers_failed_makes_all_meet_again(nodes: Nodes) -> None:
    """The others find it out by asking."""
    handlers = nodes.nodes(3, 2, 3)
    check(meet(*handlers))
    first = call(handlers[2].next_rendezvous)
    detect(*handlers[:2])
    check([*meet(*handlers[:2]), returned(first)])
    assert not any(handler.num_nodes_waiting() for handler in handlers)


def test_a_node_that_comes_late_is_let_in(nodes: Nodes) -> None:
    """Those who are at work are told of it, and meet it; their ranks stay."""
    handlers = nodes.nodes(2, 1, 4)
    before = meet(*handlers)
    late = nodes.node(1, 4)
    waiting = call(late.next_rendezvous)
    detect(*handlers)
    after = meet(*handlers)
    check([*after, returned(waiting)])
    assert [info.rank for info in after] == [info.rank for info in before]


def test_one_node_too_many_waits_for_a_place(nodes: Nodes) -> None:
    """And takes it when another goes."""
    handlers = nodes.nodes(2, 2, 2)
    check(meet(*handlers))
    spare = call(nodes.node(2, 2).next_rendezvous)
    handlers[1]._leave()
    detect(handlers[0])
    check([*meet(handlers[0]), returned(spare)])


def test_a_node_that_leaves_is_not_waited_for(nodes: Nodes) -> None:
    """As when its agent is ended by a signal, which shuts no rendezvous down."""
    handlers = nodes.nodes(3, 1, 3)
    check(meet(*handlers))
    handlers[0]._leave()
    detect(*handlers[1:])
    check(meet(*handlers[1:]))


def test_a_node_that_dies_is_not_waited_for(nodes: Nodes) -> None:
    """Nor is one that only seemed to: it comes back as another one."""
    handlers = nodes.nodes(3, 1, 3)
    check(meet(*handlers))
    with EtcdStore(nodes.etcd.endpoint) as operator:
        operator.revoke(handlers[1]._member.lease, until=operator.clock.now() + PATIENCE)
    detect(handlers[0], handlers[2], handlers[1])
    back = call(handlers[1].next_rendezvous)
    others = meet(handlers[0], handlers[2])
    while others[0].world_size < 3:  # they had met before it was back
        detect(handlers[0], handlers[2])
        others = meet(handlers[0], handlers[2])
    check([*others, returned(back)])


def test_too_few_nodes_time_out(nodes: Nodes) -> None:
    """By the name of who is missing."""
    error = error_of(call(nodes.node(2, 3, join_timeout="1.5").next_rendezvous), "RendezvousTimeoutError")
    assert "node/1 (never registered)" in str(error)


def test_a_closed_rendezvous_lets_nobody_meet(nodes: Nodes) -> None:
    """Neither those who were there, as soon as they have heard of it, nor those who wait."""
    handlers = nodes.nodes(3, 3, 3)
    check(meet(*handlers))
    waiting = call(handlers[1].next_rendezvous)
    handlers[0].set_closed()
    assert handlers[0].is_closed()
    assert eventually(handlers[2].is_closed, PATIENCE)
    for future in (waiting, call(handlers[0].next_rendezvous), call(handlers[2].next_rendezvous)):
        error_of(future, "RendezvousClosedError")


def test_a_rendezvous_can_be_closed_before_it_began(nodes: Nodes) -> None:
    """Whoever waits for more nodes learns it."""
    handlers = nodes.nodes(2, 3, 3)
    waiting = call(handlers[0].next_rendezvous)
    assert eventually(lambda: handlers[0]._member is not None, PATIENCE)
    handlers[1].set_closed()
    error_of(waiting, "RendezvousClosedError")


def test_an_id_can_be_used_again(nodes: Nodes) -> None:
    """When the job before has ended, however it did."""
    for _ in range(2):
        handlers = nodes.nodes(2, 2, 2)
        check(meet(*handlers))
        assert [handler.shutdown() for handler in handlers] == [True, True]
        assert [handler.shutdown() for handler in handlers] == [True, True]


def test_nodes_that_disagree_are_told(nodes: Nodes) -> None:
    """About how many there may be."""
    waiting = call(nodes.node(2, 3).next_rendezvous)
    assert eventually(lambda: nodes.handlers[0]._member is not None, PATIENCE)
    error = error_of(call(nodes.node(2, 4).next_rendezvous), "RendezvousStateError")
    assert "disagree about replicas" in str(error)
    nodes.handlers[0].set_closed()
    error_of(waiting, "RendezvousClosedError")


def test_an_option_that_there_is_not_is_refused(nodes: Nodes) -> None:
    """With the nearest one that there is; so are an id that can be no name, and no number."""
    with pytest.raises(InvalidArgumentError, match=r"no option 'setling' .* did you mean 'settling'\?"):
        nodes.node(1, 1, setling="3")
    with pytest.raises(InvalidArgumentError, match=r"ttl='soon', which is no number"):
        nodes.node(1, 1, ttl="soon")
    nodes.job = "no/name"
    with pytest.raises(InvalidArgumentError, match="job 'no/name' is not a valid name"):
        nodes.node(1, 1)


def test_an_etcd_that_is_not_there_is_a_lost_connection() -> None:
    """For torchrun, which knows that error; the cause says the rest."""
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    with pytest.raises(RendezvousConnectionError, match=r"127\.0\.0\.1:1") as caught:
        get_rendezvous_handler(RendezvousParameters("psbarrier", "127.0.0.1:1", "j", 1, 1))
    assert isinstance(caught.value.__cause__, StoreUnavailableError)


# -- torchrun itself

TRAINING = """
import os, pathlib, sys, time
import torch, torch.distributed as dist

dist.init_process_group("gloo")
folder, world = pathlib.Path(sys.argv[1]), int(sys.argv[2])
ones = torch.ones(1)
while ones.item() != world or not (folder / "stop").exists():
    ones = torch.ones(1)
    dist.all_reduce(ones)
    (folder / f"world{int(ones.item())}").touch()
    # All stop in the same step.
    stop = torch.tensor(float((folder / "stop").exists()))
    dist.all_reduce(stop, dist.ReduceOp.MIN)
    if stop.item():
        break
    time.sleep(0.05)
dist.destroy_process_group()
"""


class Torchrun:
    """A job of torchrun, whose nodes are processes of their own."""

    def __init__(self, nodes: Nodes, folder: Path, bounds: str) -> None:
        self.nodes, self.folder, self.bounds = nodes, folder, bounds
        self.script = folder / "train.py"
        self.script.write_text(TRAINING)

    def node(self, stack: ExitStack, *args: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=psbarrier", "--max-restarts=9"]
        command += [f"--rdzv-endpoint={self.nodes.etcd.endpoint}", f"--rdzv-id={self.nodes.job}"]
        command += [f"--nnodes={self.bounds}", "--local-addr=127.0.0.1", "--monitor-interval=0.1"]
        command += ["--rdzv-conf=last_call_timeout=20,settling=1,ttl=5", str(self.script), str(self.folder), *args]
        process = subprocess.Popen(command, text=True, start_new_session=True, **options)
        stack.callback(self._end, process)
        return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        """With the workers, which a killed agent leaves behind."""
        with_group = process.poll() is None
        if with_group:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)

    def reached(self, world: int) -> bool:
        return eventually((self.folder / f"world{world}").exists, LONG)

    def forget(self, world: int) -> None:
        (self.folder / f"world{world}").unlink(missing_ok=True)


def state(nodes: Nodes) -> str:
    command = [sys.executable, "-c", "from psbarrier.cli.main import main; main()", "status", nodes.job, "--json"]
    return subprocess.run(
        [*command, "--endpoints", nodes.etcd.endpoint], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.timeout(600)
def test_an_elastic_training_loses_a_node_and_gets_another(nodes: Nodes, tmp_path: Path) -> None:
    """Three nodes train; one is killed with its workers, two go on; another joins, and the three end well."""
    job = Torchrun(nodes, tmp_path, "2:3")
    with ExitStack() as stack:
        agents = [job.node(stack, "3") for _ in range(3)]
        assert job.reached(3)
        os.killpg(agents[0].pid, signal.SIGKILL)
        assert job.reached(2)
        job.forget(3)
        agents[0] = job.node(stack, "3")
        assert job.reached(3)
        (tmp_path / "stop").touch()
        assert [agent.wait(LONG) for agent in agents] == [0, 0, 0]
    assert '"succeeded"' in state(nodes)


@pytest.mark.timeout(300)
def test_a_node_whose_workers_cannot_be_saved_fails_the_job(nodes: Nodes, tmp_path: Path) -> None:
    """And status says which node it was, and why."""
    job = Torchrun(nodes, tmp_path, "1:1")
    job.script.write_text("raise SystemExit(3)")
    with ExitStack() as stack:
        agent = job.node(stack, "--max-restarts=0", stderr=subprocess.PIPE)
        _, said = agent.communicate(timeout=LONG)
    assert agent.returncode == 1
    assert "exitcode  : 3" in said
    assert '"failed"' in state(nodes)
    assert "node/0 crashed: ChildFailedError" in state(nodes)
