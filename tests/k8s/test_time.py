"""What the variables of a manifest mean when much time passes: by a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from helpers import eventually

import psbarrier
from k8s.kubelet import Pod, pods
from k8s.test_manifests import job
from psbarrier.errors import JobFailedError
from psbarrier.k8s import manifests
from psbarrier.member import Member
from psbarrier.settings import READ
from psbarrier.store.memory import MemoryStore

MINUTES = 60.0


class Pods:
    """The Pods of a job of a ps and two workers, each over a client of its own of one store in memory."""

    def __init__(self, kind: str, stack: ExitStack, patch: pytest.MonkeyPatch) -> None:
        self.store = stack.enter_context(MemoryStore())
        worker = {"replicas": 2, "env": {"OWN": "1"}} if kind == "jobs" else 2  # then there is a Job for each role
        self.made = pods(manifests(job(roles={"ps": 1, "worker": worker}), "job" if kind == "jobs" else kind))
        self._stack, self._patch = stack, patch

    def come_up(self, pod: Pod) -> tuple[MemoryStore, Member]:
        """Join as the Pod's process would: with its variables, and no argument beside the store."""
        for name in READ:
            self._patch.delenv(name, raising=False)
        for name, value in pod.environment().items():
            self._patch.setenv(name, value)
        client = self._stack.enter_context(self.store.client())
        member = psbarrier.join(client)
        self._stack.callback(member.abandon)
        return client, member

    def all_but_one_that_died(self) -> tuple[Member, Pod]:
        """Have all pass the gate, and end worker/1 and its lease; another member, and the Pod that died."""
        members = [self.come_up(pod) for pod in self.made]
        assert {member.cluster().epoch for _, member in members} == {1}
        client, lost = next(pair for pair in members if str(pair[1].task) == "worker/1")
        client.close()
        lost.abandon()
        self.store.expire(lost)
        other = next(member for _, member in members if member is not lost)
        return other, self.made[[member for _, member in members].index(lost)]


@pytest.fixture(params=["job", "jobs", "pods", "jobset"])
def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    with ExitStack() as stack:
        yield Pods(request.param, stack, monkeypatch)


def test_a_pod_that_is_replaced_five_minutes_later_finds_its_place(started: Pods) -> None:
    """So long does Kubernetes take to give up a node. Nobody has failed the job meanwhile, and the slot is the same."""
    other, died = started.all_but_one_that_died()
    started.store.advance(5 * MINUTES)
    _, again = started.come_up(died)
    assert str(again.task) == "worker/1"
    assert again.cluster().epoch == 2
    assert not other.job_state.over


def test_a_pod_that_never_comes_back_fails_the_job(started: Pods) -> None:
    """After a quarter of an hour: then its exit code, 110, tells Kubernetes to give up too."""
    other, died = started.all_but_one_that_died()

    def over() -> bool:
        started.store.advance(1 * MINUTES)
        return other.job_state.over

    assert eventually(over)
    with pytest.raises(JobFailedError, match="worker/1"):
        started.come_up(died)


def test_a_job_that_was_suspended_for_half_an_hour_goes_on(started: Pods) -> None:
    """Longer than any task alone may be away: nobody was there to miss another. It is the same run, whatever made the Pods."""
    before = [member for _, member in map(started.come_up, started.made)]
    assert {member.cluster().epoch for member in before} == {1}
    for member in before:
        member.leave("ended by SIGTERM")
    started.store.advance(30 * MINUTES)
    again = [member for _, member in map(started.come_up, started.made)]
    assert {str(member.task) for member in again} == {str(member.task) for member in before}
    assert {member.cluster().epoch for member in again} == {2}
    assert {member.run for member in again} == {member.run for member in before}
