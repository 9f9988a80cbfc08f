"""What psbarrier costs etcd, counted by etcd itself: exact, so a change that costs more fails here.

Each member has a store of its own, as if it were a process of its own, and a TTL so long that no beat but the first falls
into a test.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from jobs import PATIENCE, Counting, Place, call, returned

import psbarrier
from benchmarks.counters import Counters
from psbarrier import Member
from psbarrier.embedded import EtcdServer
from psbarrier.store.base import Keeping, Store, Txn, TxnReply
from psbarrier.store.etcd import EtcdStore

TTL = 600
SIZE = 8


class Crowd:
    """The members of one job, and what etcd has counted for them."""

    def __init__(self, etcd: EtcdServer) -> None:
        self.etcd = etcd
        self.stores: list[EtcdStore] = []
        self.members: list[Member] = []
        self.before = self.read()

    def join(self, index: int, wrap: Callable[[Store], Store] = lambda store: store, **options: Any) -> Member:
        # The one look for known bugs, for each process, is left out: which test of a process it falls into depends.
        own = EtcdStore(self.etcd.endpoint, tell_of_bugs=False)
        store = wrap(own)
        self.stores.append(own)
        given: dict[str, Any] = {"replicas": {"worker": SIZE}, "run": "run", "ttl": TTL, "address": "h:1", **options}
        member = psbarrier.join(store, "count", "worker", index, **given)
        self.members.append(member)
        return member

    def read(self) -> Counters:
        return Counters.read(self.etcd.endpoint)

    def spent(self) -> Counters:
        """What was counted since the last look, once all events have arrived."""
        # A member's events come in their order. So whoever has heard of a value has been told of all that was before.
        self.members[0].share("mark", len(self.members))
        for member in self.members:
            assert member.get("mark", timeout=PATIENCE) == len(self.members)
        heard = len(self.members)
        now = self.read()
        spent, self.before = now - self.before, now
        return Counters(spent.requests - Counter(Txn=1), spent.events - heard, spent.sent)

    def close(self) -> None:
        for member in self.members:
            member.close()
        for store in self.stores:
            store.close()


@pytest.fixture
def crowd(own_etcd: EtcdServer) -> Iterator[Crowd]:
    made = Crowd(own_etcd)
    yield made
    made.close()


def _absences(crowd: Crowd) -> int:
    """How often the leader has told who is not there yet: every 2 s, so on a slow machine once or twice."""
    first = crowd.members[0]
    gone, seal = first._view.get(first._me.keys.gone), first._view.get(first._me.keys.cluster)
    if gone is None or seal is None:
        return 0
    return gone.version - (gone.mod == seal.mod)


def test_a_start_costs_each_member_four_requests_and_one_event(crowd: Crowd) -> None:
    """A lease, a watch, a join and the read of the spec; and the event that the spec is sealed.

    The first one founds the run and leads, which costs five requests and an event for each registration more.
    """
    for index in range(SIZE):
        crowd.join(index)
    for member in crowd.members:
        member.cluster(PATIENCE)
    spent, told = crowd.spent(), _absences(crowd)
    ours = Counter(LeaseGrant=1, Watch=1, Txn=2)
    leaders = Counter(LeaseGrant=1, Watch=1, Range=1, Txn=2)
    assert spent.requests == _times(SIZE, ours) + leaders + Counter(Txn=told)
    leadership, registrations = 1, SIZE - 1
    assert spent.events - leadership - registrations - SIZE in range(SIZE * told + 1)


class Together:
    """A store whose first transaction is answered once that of all the others has been decided, too."""

    def __init__(self, store: Store, line: threading.Barrier) -> None:
        self._store, self._line = store, line
        self._first = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def txn(self, txn: Txn, *, until: float) -> TxnReply:
        reply = self._store.txn(txn, until=until)
        if self._first:
            self._first = False
            self._line.wait(PATIENCE)
        return reply


def test_a_start_costs_five_requests_where_all_come_before_the_run_is_founded(crowd: Crowd) -> None:
    """One founds it, and the others join once more; nobody makes a lease for the run in vain."""
    line = threading.Barrier(SIZE)
    joining = [call(crowd.join, index, wrap=lambda store: cast(Store, Together(store, line))) for index in range(SIZE)]
    for future in joining:
        returned(future).cluster(PATIENCE)
    spent, told = crowd.spent(), _absences(crowd)
    others = Counter(LeaseGrant=1, Watch=1, Txn=3)
    founder = Counter(LeaseGrant=2, Watch=2, Range=1, Txn=4)
    assert others.total() == 5
    assert spent.requests == _times(SIZE - 1, others) + founder + Counter(Txn=told)
    # Who registers before the leader's own watch is open is read, and no event.
    leadership, registrations = SIZE, SIZE - 1
    assert spent.events - leadership - SIZE in range(registrations + SIZE * told + 1)


def test_a_barrier_costs_each_party_one_request_and_one_event(crowd: Crowd) -> None:
    """A transaction that arrives, and the event of the release; two of each are promised."""
    for index in range(SIZE):
        crowd.join(index)
    barriers = [member.barrier("step") for member in crowd.members]
    _meet(crowd, lambda index: barriers[index].wait(PATIENCE))
    crowd.spent()
    _meet(crowd, lambda index: [barriers[index].wait(PATIENCE) for _ in range(10)])
    spent = crowd.spent()
    assert spent.requests == Counter(Txn=10 * SIZE)
    assert spent.events == 10 * SIZE


def _times(count: int, counter: Counter[str]) -> Counter[str]:
    return Counter({kind: count * each for kind, each in counter.items()})


def _meet(crowd: Crowd, work: Callable[[int], object]) -> None:
    for future in [call(work, index) for index in range(len(crowd.members))]:
        returned(future)


class Beating(Counting):
    """A store that counts its keep-alives, too, by their answers."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.client())
        self.beats = 0

    def keep(
        self, lease: int, *, interval: float, on_beat: Callable[[float, int], None], first: float = 0.0
    ) -> Keeping:
        def beaten(sent: float, ttl: int) -> None:
            self.beats += 1
            on_beat(sent, ttl)

        return self._store.keep(lease, interval=interval, on_beat=beaten, first=first)


def test_an_idle_minute_costs_a_member_twelve_requests(memory: Place) -> None:
    """At the default TTL: a beat every 5 s. Whoever leads reads once in each TTL, and keeps the run's lease."""
    stores = [Beating(memory), Beating(memory)]
    members = [memory.join("worker", index, store=store) for index, store in enumerate(stores)]
    for member in members:
        member.cluster(PATIENCE)
    waiting = call(members[1].get, "late", 600)  # no wait costs a request
    _pass(memory, members, 15)
    before = [(store.requests, store.beats) for store in stores]
    _pass(memory, members, 60)
    after = [(store.requests, store.beats) for store in stores]
    leader, other = (
        (requests - earlier[0], beats - earlier[1]) for (requests, beats), earlier in zip(after, before, strict=True)
    )
    assert leader == (4, 12 + 1)
    assert other == (0, 12)
    members[0].share("late", 1)
    assert returned(waiting) == 1


def _pass(memory: Place, members: list[Member], seconds: int) -> None:
    """Time passes second by second, and what is done in the background at each moment is done before the next."""
    for _ in range(seconds):
        memory.memory.advance(1.0)
        for member in members:
            if member._session._runner._thread is not None:  # as whoever leads has one
                memory.memory.clock.await_waiters(condition=member._session._runner._condition)
