"""An etcd without space: what it refuses is said with the way out, nobody dies of it, and afterwards all goes on."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from helpers import eventually
from jobs import PATIENCE, Place, call, raised, returned

from psbarrier import MemberState, Policy
from psbarrier.embedded import EtcdServer
from psbarrier.errors import (
    BarrierOutcomeUnknownError,
    GateTimeoutError,
    JobTimeoutError,
    StoreFullError,
    StoreRefusedError,
)
from psbarrier.store.base import Put, Txn

pytestmark = pytest.mark.e2e

QUOTA = 4 * 1024 * 1024
WAY_OUT = "database space exceeded; compact and defragment etcd, or raise its quota, then run `etcdctl alarm disarm`"


@pytest.fixture
def full() -> Iterator[Place]:
    """A place on an etcd of its own with very little space."""
    with EtcdServer(extra_args=[f"--quota-backend-bytes={QUOTA}"]) as server, Place(server) as place:
        yield place


def ask(place: Place, path: str, **body: Any) -> dict[str, Any]:
    """A request of the operator's."""
    assert place.etcd is not None
    gateway = HTTPConnection(place.etcd.endpoint, timeout=PATIENCE)
    with contextlib.closing(gateway):
        gateway.request("POST", path, body=json.dumps(body))
        answer: dict[str, Any] = json.loads(gateway.getresponse().read())
        return answer


def fill(place: Place) -> None:
    """Write until etcd raises its alarm, which it may do late: it measures what it has flushed."""
    until = place.soon()

    def write() -> None:
        while place.store.clock.now() < until:
            place.apply(Txn(then=(Put("/filler", b"x" * 1024 * 1024),)))

    with pytest.raises(StoreFullError):
        write()


def make_room(place: Place) -> None:
    """What the error says is to be done."""
    header = ask(place, "/v3/kv/range", key="Lw==")["header"]
    ask(place, "/v3/kv/compaction", revision=header["revision"], physical=True)
    ask(place, "/v3/maintenance/defragment")
    ask(place, "/v3/maintenance/alarm", action="DEACTIVATE", alarm="NOSPACE", memberID=header["member_id"])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_members_live_on_and_all_goes_on_when_there_is_room(full: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Through several TTLs: leases are kept, waits go on, each refused write says what to do."""
    members = full.start(ttl=2, policy=Policy(loss_grace=2.0))
    parties = [member.barrier("b") for member in members]
    waiting = call(parties[0].wait, PATIENCE)
    full.until(lambda: parties[0].n_waiting == 1)
    waiting_for_the_end = call(members[0].wait_job, PATIENCE)
    fill(full)
    for refused in (
        call(parties[1].wait, PATIENCE),
        call(members[1].share, "k", 1),
        call(members[1].finish),
        call(members[1].barrier, "another"),
        call(full.join, "worker", 0, run="another"),
    ):
        error = raised(refused)
        assert isinstance(error, StoreFullError)
        assert isinstance(error, StoreRefusedError)
        assert WAY_OUT in str(error)
    sure = [member._session.certain_until for member in members]
    assert eventually(lambda: all(m._session.certain_until > s + 4 for m, s in zip(members, sure, strict=True)))
    assert {member.state for member in members} == {MemberState.CONNECTED}
    assert not waiting.done()
    assert not waiting_for_the_end.done()
    make_room(full)
    assert sorted((returned(call(parties[1].wait, PATIENCE)), returned(waiting))) == [0, 1]
    for member in members:
        member.finish()
    assert returned(waiting_for_the_end).phase == "succeeded"
    assert len(warnings(caplog)) <= 2


def test_a_leader_that_cannot_write_waits_without_a_flood(full: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It keeps its lease and its leadership, tries again now and then, says so once, and catches up afterwards."""
    members = full.start(ttl=2, policy=Policy(loss_grace=600.0))
    fill(full)
    full.lose(members[1])  # this the leader would have to write down
    full.until(lambda: any("cannot lead" in text for text in warnings(caplog)))
    sure = members[0]._session.certain_until
    assert eventually(lambda: members[0]._session.certain_until > sure + 4)
    assert members[0].state is MemberState.CONNECTED
    told = [text for text in warnings(caplog) if "cannot lead" in text]
    assert len(told) == 1
    assert WAY_OUT in told[0]
    make_room(full)
    full.until(lambda: len(members[0]._view.gone.lost) == 1)
    again = full.join("worker", 1, ttl=2, policy=Policy(loss_grace=600.0))
    assert again.cluster(PATIENCE).epoch == 2


@pytest.mark.slow
def test_nobody_leads_while_nobody_can_write(full: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The leader dies meanwhile: the others do not hammer at etcd for its place, and one has it afterwards."""
    members = full.start(ttl=2, policy=Policy(loss_grace=600.0))
    fill(full)
    full.lose(members[0])
    sure = members[1]._session.certain_until
    assert eventually(lambda: members[1]._session.certain_until > sure + 4)
    assert len([text for text in warnings(caplog) if text.startswith("worker/1 cannot take over leading")]) == 1
    make_room(full)
    full.until(lambda: (leader := members[1]._view.leader) is not None and leader.task == "worker/1")


@pytest.mark.slow
def test_waits_keep_their_deadlines(full: Place) -> None:
    """A barrier that cannot be broken is one whose outcome nobody knows; the gate and the job's end say who is missing."""
    first = full.join("worker", 0)
    gate = call(first.cluster, 3.0)
    fill(full)
    assert isinstance(raised(gate), GateTimeoutError)
    make_room(full)
    second = full.join("worker", 1)
    for member in (first, second):
        member.cluster(PATIENCE)
    party, other = first.barrier("b"), second.barrier("b")
    waiting = call(party.wait, 4.0)
    full.until(lambda: party.n_waiting == 1)
    fill(full)
    error = raised(waiting)
    assert isinstance(error, BarrierOutcomeUnknownError)
    assert "database space exceeded" in str(error)
    assert isinstance(raised(call(first.wait_job, 0.5)), JobTimeoutError)
    make_room(full)
    assert other.wait(PATIENCE) == 1
    assert party.wait(PATIENCE, generation=error.generation) == -1
