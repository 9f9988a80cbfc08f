"""The gate: nobody starts before everybody is there, and who is missing is said by name."""

from __future__ import annotations

import time

import pytest
from jobs import JOB, PATIENCE, TWO, Place, call, raised, returned

from psbarrier import ClusterSpec, Member, Task
from psbarrier.errors import GateTimeoutError, JobFailedError, JobOverError, MalformedValueError, SlotLostError
from psbarrier.store.base import Put, Txn

FOUR = {"ps": 2, "worker": 2}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_all_get_the_same_spec_whatever_the_order(place: Place, order: tuple[int, ...]) -> None:
    """Who came first, and who led, shows nowhere in the spec."""
    tasks = [Task("ps", 0), Task("worker", 0), Task("worker", 1)]
    waiting = []
    for position in order:
        task = tasks[position]
        member = place.join(
            task.role, task.index, replicas=JOB, address=f"{task.role}{task.index}:1", meta={"n": position}
        )
        waiting.append(call(member.cluster, PATIENCE))
    specs = [returned(spec) for spec in waiting]
    assert all(spec == specs[0] for spec in specs)
    assert specs[0].epoch == 1
    assert specs[0].as_dict() == {"ps": ["ps0:1"], "worker": ["worker0:1", "worker1:1"]}
    assert [member.meta for member in specs[0].members] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_the_gate_stays_shut_until_the_last_one_is_there(place: Place) -> None:
    """A spec is sealed once, when every task is registered."""
    first = place.join("worker", 0)
    waiting = call(first.cluster, PATIENCE)
    assert not any("/cluster/" in kv.key for kv in place.kvs())
    second = place.join("worker", 1)
    assert returned(waiting).member(second.task).incarnation == second.incarnation


def test_a_worker_that_never_started_is_named_in_time(real: Place) -> None:
    """cluster(timeout=3) raises between 3.0 and 3.9 s, and says exactly who is missing and why."""
    members = [real.join("ps", 0, replicas=JOB), real.join("worker", 0, replicas=JOB)]
    began = time.monotonic()
    late = call(members[0].cluster, timeout=3)
    error = raised(late)
    took = time.monotonic() - began
    assert isinstance(error, GateTimeoutError)
    assert isinstance(error, TimeoutError)
    assert 3.0 <= took <= 3.9
    assert error.missing == {"worker/1": "never registered"}
    assert "worker/1 (never registered)" in str(error)
    assert "2 of 3" in str(error)
    assert not any(str(member.task) in str(error) for member in members)


def test_who_was_there_and_vanished_is_told_from_who_never_came(place: Place) -> None:
    """ "Lost", with a time, is another problem than "never registered", and so is "crashed"."""
    replicas = {"worker": 4}
    watcher, vanished, left = (place.join("worker", index, replicas=replicas) for index in range(3))
    place.until(lambda: [str(task) for task in watcher._view.gone.absent] == ["worker/3"])
    place.lose(vanished)
    left.leave("drained")
    place.until(lambda: {"worker/1", "worker/2"} <= {str(task) for task in watcher._view.gone.lost})
    late = call(watcher.cluster, timeout=0.5)
    place.until(late.done)
    error = raised(late)
    assert isinstance(error, GateTimeoutError)
    assert set(error.missing) == {"worker/1", "worker/2", "worker/3"}
    assert error.missing["worker/1"].startswith("lost at ")
    assert "drained" in error.missing["worker/2"]
    assert error.missing["worker/3"] == "never registered"


def test_after_a_timeout_the_gate_can_be_tried_again(place: Place) -> None:
    """A deadline ends the wait, not the membership."""
    first = place.join("worker", 0)
    late = call(first.cluster, timeout=0.2)
    place.until(late.done)
    assert isinstance(raised(late), GateTimeoutError)
    place.join("worker", 1)
    assert first.cluster(PATIENCE).epoch == 1


def test_a_gate_without_etcd_times_out_and_says_why(memory: Place) -> None:
    """In an outage nobody can know who is missing; the error says that instead of naming somebody."""
    store = memory.memory_client()
    first = memory.join("worker", 0, store=store)
    store.cut()
    late = call(first.cluster, timeout=3.0)
    memory.until(late.done, step=0.1)
    error = raised(late)
    assert isinstance(error, GateTimeoutError)
    assert error.missing == {}
    assert "etcd does not say who is missing" in str(error)


def replace(place: Place, *members: Member) -> list[Member]:
    """Each member's lease goes; another process joins in its place."""
    for member in members:
        place.lose(member)
    replicas = members[0]._me.config.replicas
    return [place.join(member.task.role, member.task.index, replicas=replicas, address="new:1") for member in members]


def test_a_replaced_member_makes_the_next_epoch_for_all_others(place: Place) -> None:
    """changes() hands out the spec with the new address; the new member gets it from the gate."""
    first, second, third = place.start({"worker": 3})
    following = [call(next, member.changes(PATIENCE)) for member in (first, second)]
    (new,) = replace(place, third)
    specs: list[ClusterSpec] = [returned(spec) for spec in following]
    place.until(lambda: new._view.seal is not None)
    assert [spec.epoch for spec in specs] == [2, 2]
    assert specs[0].member(third.task).address == "new:1"
    assert new.cluster(PATIENCE) == specs[0] == specs[1]
    assert first.cluster(PATIENCE) == specs[0]


def test_a_replaced_leader_makes_the_next_epoch_too(place: Place) -> None:
    """Leading is a duty that another member takes over."""
    first, second = place.start(TWO)
    following = call(next, second.changes(PATIENCE))
    replace(place, first)
    assert returned(following).epoch == 2


def test_several_losses_at_once_make_one_epoch(place: Place) -> None:
    """A node that takes three tasks with it costs the others one change of the cluster, not three."""
    members = place.start(FOUR)
    following = call(next, members[0].changes(PATIENCE))
    new = replace(place, *members[1:])
    assert returned(following).epoch == 2
    assert {member.cluster(PATIENCE).epoch for member in new} == {2}


def test_a_new_member_never_gets_a_spec_that_names_its_predecessor(place: Place) -> None:
    """The gate opens for an incarnation, not for a task."""
    members = place.start(TWO)
    for _ in range(5):
        (new,) = replace(place, members[1])
        assert new.cluster(PATIENCE).member(new.task).incarnation == new.incarnation
        members[1] = new


def test_old_specs_do_not_pile_up(place: Place) -> None:
    """However often members are replaced, etcd holds the last two specs."""
    members = place.start(TWO)
    for _ in range(4):
        (members[1],) = replace(place, members[1])
        members[1].cluster(PATIENCE)
    assert len([name for name in place.names() if "/cluster/" in name]) <= 2


@pytest.mark.parametrize("end", ["fail", "finish"])
def test_changes_end_with_the_job(place: Place, end: str) -> None:
    """After a success the iteration is over; after a failure it raises who failed and why."""
    first, second = place.start({"chief": 1, "worker": 1})
    rest = call(lambda: list(second.changes()))
    if end == "finish":
        first.finish()
        assert returned(rest) == []
    else:
        first.fail("broken", 3)
        error = raised(rest)
        assert isinstance(error, JobFailedError)
        assert (error.by, error.reason, error.exit_code) == ("chief/0", "broken", 3)


def test_the_gate_of_a_failed_job_says_who_failed(place: Place) -> None:
    """Nobody waits for a cluster that will never be complete."""
    first = place.join("worker", 0)
    waiting = call(first.cluster, None)
    place.until(lambda: place.kvs(), step=0)
    first.fail("no data", 9)
    error = raised(waiting)
    assert isinstance(error, JobOverError)
    assert isinstance(error, JobFailedError)
    assert error.exit_code == 9


def test_who_loses_its_slot_at_the_gate_learns_it(place: Place) -> None:
    """A wait without a deadline is no reason to hang when the lease is gone."""
    first = place.join("worker", 0)
    waiting = call(first.cluster, None)
    place.join("worker", 0, takeover="force")
    place.until(waiting.done, step=2.0)
    assert isinstance(raised(waiting), SlotLostError)


def test_a_spec_that_somebody_has_tampered_with_is_refused(place: Place) -> None:
    """What is read must be what was sealed; the digest is in the announcement."""
    first, _ = place.start(TWO)
    (body,) = [kv for kv in place.kvs() if "/cluster/" in kv.key]
    assert place.apply(Txn(then=(Put(body.key, body.value.replace(b"worker-0", b"evil-0"), body.lease),)))
    first._cluster = None
    with pytest.raises(MalformedValueError, match="SHA-256") as refused:
        first.cluster(5.0)
    assert refused.value.key == body.key


def test_a_gate_that_is_open_costs_no_request(memory: Place) -> None:
    """Asking for the cluster again and again is free until it changes."""
    store = memory.memory_client()
    member = memory.join("worker", 0, replicas={"worker": 1}, store=store)
    spec = member.cluster(PATIENCE)
    store.cut()
    assert all(member.cluster(0.0) is spec for _ in range(100))
