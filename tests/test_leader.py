"""The leader's duty: somebody always does it, and nobody notices who."""

from __future__ import annotations

import logging

import pytest
from jobs import PATIENCE, TWO, Place, call, rejoin, returned

from psbarrier import Member, MemberState, Policy
from psbarrier.errors import StoreRefusedError
from psbarrier.store.base import Delete, Put, Txn
from psbarrier.store.memory import MemoryStore

THREE = {"worker": 3}


def leader(member: Member) -> str:
    """Who leads, as `member` has heard."""
    known = member._view.leader
    return known.task if known else ""


def with_networks(memory: Place, count: int = 3, **options: object) -> list[tuple[MemoryStore, Member]]:
    """Members that can be cut off one by one; the first one leads."""
    found = []
    for index in range(count):
        store = memory.memory_client()
        found.append((store, memory.join("worker", index, replicas={"worker": count}, store=store, **options)))
    for _, member in found:
        member.cluster(PATIENCE)
    return found


def test_who_comes_first_leads_and_another_takes_over(place: Place) -> None:
    """The leadership goes with its holder's lease; one of the others has it at once."""
    first, second, third = place.start(THREE)
    assert leader(second) == "worker/0"
    place.lose(first)
    place.until(lambda: leader(second) in ("worker/1", "worker/2"), step=0)
    place.until(lambda: leader(third) in ("worker/1", "worker/2"), step=0)


def test_every_member_may_have_led_once(place: Place) -> None:
    """However often the leader goes, the job goes on and each replacement is sealed in."""
    members = place.start(THREE)
    for round_ in range(6):
        now = leader(members[0]) or leader(members[1])
        index = int(now.rpartition("/")[2])
        members[index] = rejoin(place, members[index])
        assert members[index].cluster(PATIENCE).epoch == round_ + 2
        place.until(lambda: all(leader(member) for member in members), step=0)


def test_a_leader_that_is_cut_off_is_replaced(memory: Place) -> None:
    """It still believes to lead, and can write nothing; when it is back it learns that it is lost."""
    (store, old), (_, second), (_, third) = with_networks(memory)
    store.cut()
    memory.memory.advance(16.0)
    memory.until(lambda: leader(second) not in ("", "worker/0"), step=0)
    assert leader(old) == "worker/0"
    memory.until(lambda: old.task in third._view.gone.lost)
    store.heal()
    memory.until(lambda: old.state is MemberState.LOST)
    assert not memory.over()


def test_no_etcd_for_a_while_changes_no_leader(memory: Place) -> None:
    """An outage of all of etcd is nobody's fault: who led, leads."""
    members = [member for _, member in with_networks(memory)]
    memory.memory.stop()
    memory.memory.advance(100.0)
    memory.memory.start()
    memory.until(lambda: all(member.state is MemberState.CONNECTED for member in members))
    assert {leader(member) for member in members} == {"worker/0"}
    memory.lose(members[2])
    memory.until(lambda: members[2].task in members[1]._view.gone.lost)


def test_taking_over_is_tried_again_when_etcd_refuses(memory: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A full etcd at the wrong moment does not leave a job without a leader for ever."""
    first, (store, second) = with_networks(memory, 2)
    full = StoreRefusedError("etcd refuses: no space")
    store.fail_next("txn", full)
    store.fail_next("txn", full)
    with caplog.at_level(logging.WARNING, logger="psbarrier"):
        memory.lose(first[1])
        memory.until(lambda: leader(second) == "worker/1")
    assert "cannot take over" in caplog.text
    assert "no space" in caplog.text


def test_a_leader_that_etcd_refuses_gives_the_leadership_up(memory: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Sitting on it in silence would stop the whole job."""
    (store, first), (_, second), (_, third) = with_networks(memory)
    terms = {second._view.leader_create}
    store.fail_next("txn", StoreRefusedError("etcd refuses: permission denied"))
    with caplog.at_level(logging.WARNING, logger="psbarrier"):
        memory.lose(third)
        memory.until(lambda: second._view.leader_create not in terms | {0})
    assert "gives up leading" in caplog.text
    assert first.state is MemberState.CONNECTED
    memory.until(lambda: third.task in second._view.gone.lost)


def test_a_stranger_among_the_registrations_is_reported_and_counts_as_absent(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that this version does not write stops neither the leader nor the job's other members."""
    first = place.join("worker", 0)
    strange = first._me.keys.member(first.task).removesuffix("0") + "1"
    with caplog.at_level(logging.WARNING, logger="psbarrier"):
        assert place.apply(Txn(then=(Put(strange, b'{"v":99}'),)))
        place.until(lambda: "counts as absent" in caplog.text)
    assert strange in caplog.text
    assert place.apply(Txn(then=(Delete(strange),)))
    assert place.join("worker", 1).cluster(PATIENCE) == first.cluster(PATIENCE)


def test_many_losses_are_told_in_few_writes(memory: Place) -> None:
    """A rack that fails costs the others a handful of messages, not one for each of its tasks."""
    members = memory.start({"worker": 20})
    writes = members[0]._view.get(members[0]._me.keys.gone)
    before = writes.version if writes else 0
    for member in members[1:]:
        memory.lose(member)
    memory.until(lambda: len(members[0]._view.gone.lost) == 19)
    (gone,) = [kv for kv in memory.kvs() if kv.key.endswith("/control/gone")]
    assert gone.version - before <= 6


def test_the_leader_leads_on_after_it_has_finished(place: Place) -> None:
    """Its work is done, its duty is not: who is lost meanwhile is still noticed."""
    first, second, third = place.start(THREE, policy=Policy(loss_grace=1.0))
    first.finish()
    place.lose(third)
    waiting = call(second.wait_job)
    place.until(waiting.done)
    assert (returned(waiting).phase, returned(waiting).by) == ("failed", "worker/2")


def test_a_member_that_joins_while_nobody_leads_leads(place: Place) -> None:
    """A run whose processes were all away for a moment has a leader again with the first that is back."""
    for member in place.start(TWO):
        place.lose(member)
    first = place.join("worker", 0)
    assert leader(first) == "worker/0"
    second = place.join("worker", 1)
    assert second.cluster(PATIENCE) == first.cluster(PATIENCE)
