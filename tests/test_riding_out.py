"""A job in the middle of its training rides out the loss of etcd: of its only member, or of a cluster's quorum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager

import pytest
from helpers import eventually
from jobs import PATIENCE, call, returned

import psbarrier
from psbarrier import Member, MemberState
from psbarrier.embedded import EtcdServer
from psbarrier.testing import EtcdCluster

pytestmark = pytest.mark.e2e

REPLICAS = {"ps": 1, "worker": 2}

# Seconds. With etcd's least, 2, a machine that starts several clusters at once may starve a lease to death, and rightly.
TTL = 5


class Training:
    """A parameter server, two workers that meet again and again, and what each has been told of its own state."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.states: dict[Member, list[MemberState]] = {member: [] for member in members}
        for member in members:
            member.on_state(self.states[member].append)
            member.cluster(PATIENCE)
        self.last = math.inf
        self.workers: list[Future[int]] = [call(self._train, member) for member in self.members[1:]]
        self.server = call(self.members[0].wait_job, None)

    def _train(self, member: Member) -> int:
        barrier = member.barrier("epoch", roles=("worker",))
        while barrier.generation < self.last:
            barrier.wait(timeout=120)
        member.finish()
        return barrier.generation

    def end(self) -> None:
        """Let the workers meet a few times more, and all finish."""
        self.last = self.generation + 20
        assert len({worker.result(2 * PATIENCE) for worker in self.workers}) == 1
        assert returned(self.server).phase == "succeeded"

    @property
    def generation(self) -> int:
        return self.members[1].barrier("epoch", roles=("worker",)).generation

    def went_on(self) -> bool:
        """Whether the workers have met again since this was called."""
        before = self.generation
        return eventually(lambda: self.generation > before, PATIENCE)

    def others(self) -> list[tuple[Member, object]]:
        """Who is not suspended, and why."""
        members = (member for member in self.members if member.state is not MemberState.SUSPENDED)
        return [(member, member._session.error) for member in members]

    def all_are(self, state: MemberState) -> bool:
        return eventually(lambda: {member.state for member in self.members} == {state}, PATIENCE)


@contextmanager
def training(endpoints: str) -> Iterator[Training]:
    with ExitStack() as members:
        tasks = psbarrier.Replicas.of(REPLICAS).tasks()
        yield Training([members.enter_context(closing(joined(endpoints, task))) for task in tasks])


def joined(endpoints: str, task: psbarrier.Task) -> Member:
    return psbarrier.join(
        endpoints, "j", task.role, task.index, replicas=REPLICAS, run="run", address=f"{task.role}:1", ttl=TTL
    )


def ride_out(job: Training, stop: Callable[[], object], start: Callable[[], object], seconds: float) -> None:
    """No task is lost, who waited goes on, and everybody was told SUSPENDED and then CONNECTED."""
    tokens = [member.token for member in job.members]
    assert job.went_on()
    stop()
    assert job.all_are(MemberState.SUSPENDED)
    # So long all of them are suspended, whatever they try.
    assert not eventually(job.others, seconds), job.others()
    start()
    assert job.all_are(MemberState.CONNECTED), [(member, member._session.error) for member in job.members]
    assert job.went_on()
    job.end()
    assert [member.token for member in job.members] == tokens
    assert {member.cluster(PATIENCE).epoch for member in job.members} == {1}
    for states in job.states.values():
        assert eventually(lambda states=states: states[-1:] == [MemberState.CONNECTED])  # type: ignore[misc]
        # On a busy machine a heartbeat may be late for a whole TTL at other times, too.
        assert states == [MemberState.SUSPENDED, MemberState.CONNECTED] * (len(states) // 2)


DURATIONS = [2.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(240)])]


@pytest.mark.parametrize("seconds", DURATIONS)
def test_an_etcd_that_is_killed_and_restarted_costs_time_and_nothing_else(own_etcd: EtcdServer, seconds: float) -> None:
    """With its data it has the leases too, and gives each a whole TTL again."""
    with training(own_etcd.endpoint) as job:
        ride_out(job, own_etcd.kill, own_etcd.restart, seconds)


@pytest.mark.parametrize("seconds", DURATIONS)
def test_a_cluster_that_loses_its_quorum_costs_time_and_nothing_else(seconds: float) -> None:
    """One member of three still runs, answers nobody, and can revoke no lease."""
    with EtcdCluster() as cluster, training(cluster.endpoints) as job:
        leader = cluster.leader()
        lost = [leader, (leader + 1) % 3]

        def stop() -> None:
            for index in lost:
                cluster.members[index].kill()
            # Until it has noticed, a member that led since renews leases.
            (left,) = (member for member in cluster.members if member.index not in lost)
            assert eventually(lambda: (status := left.status()) is not None and not status.leader)

        ride_out(job, stop, cluster.start, seconds)


def test_a_leader_that_is_partitioned_away_costs_nothing() -> None:
    """The clients that hang on it find the others: nobody is lost."""
    with EtcdCluster() as cluster, training(cluster.endpoints) as job:
        tokens = [member.token for member in job.members]
        leader = cluster.leader()
        cluster.partition({leader})
        assert job.went_on()
        cluster.heal()
        assert job.went_on()
        job.end()
        assert [member.token for member in job.members] == tokens
        assert {member.cluster(PATIENCE).epoch for member in job.members} == {1}
