"""The members of one process on one store read a sealed spec once, whichever of them comes first."""

from __future__ import annotations

import threading
from typing import Any

from jobs import PATIENCE, Place, call, raised, returned

from psbarrier.errors import StoreRefusedError
from psbarrier.store.base import Range, Store, Txn, TxnReply


class Shared:
    """A store that counts who reads the body of a spec, and holds the first such read up, or refuses it."""

    def __init__(self, store: Store, *, refuses: bool = False) -> None:
        self._store, self._refuses = store, refuses
        self.bodies = 0
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def txn(self, txn: Txn, *, until: float) -> TxnReply:
        if any(isinstance(op, Range) and "/cluster/" in op.key for op in txn.then):
            self.bodies += 1
            if self.bodies == 1:
                self.asked.set()
                assert self.go_on.wait(PATIENCE)
                if self._refuses:
                    raise StoreRefusedError("no rights to the first one")
        return self._store.txn(txn, until=until)


def test_one_member_reads_the_spec_and_the_others_get_the_same(memory: Place) -> None:
    """Also those who come while it is being read."""
    store = Shared(memory.client())
    members = [memory.join("worker", index, store=store, replicas={"worker": 3}) for index in range(3)]
    first = call(members[0].cluster, PATIENCE)
    assert store.asked.wait(PATIENCE)
    others = [call(member.cluster, PATIENCE) for member in members[1:]]
    for member in members[1:]:
        memory.memory.clock.await_waiters(condition=member._session.condition)
    store.go_on.set()
    specs = [returned(future) for future in (first, *others)]
    assert specs[0] is specs[1] is specs[2]
    assert len(specs[0].members) == 3
    assert store.bodies == 1


def test_a_reader_that_fails_leaves_the_others_to_read_for_themselves(memory: Place) -> None:
    """After five seconds: a wait for another member is no wait for ever."""
    store = Shared(memory.client(), refuses=True)
    members = [memory.join("worker", index, store=store) for index in range(2)]
    first = call(members[0].cluster, PATIENCE)
    assert store.asked.wait(PATIENCE)
    other = call(members[1].cluster, PATIENCE)
    memory.memory.clock.await_waiters(condition=members[1]._session.condition)
    store.go_on.set()
    assert isinstance(raised(first), StoreRefusedError)
    memory.memory.advance(5.0)
    assert len(returned(other).members) == 2
    assert store.bodies == 2


def test_members_on_stores_of_their_own_read_for_themselves(memory: Place) -> None:
    """As processes do."""
    stores = [Shared(memory.client()), Shared(memory.client())]
    members = [memory.join("worker", index, store=store) for index, store in enumerate(stores)]
    for store in stores:
        store.go_on.set()
    for member in members:
        member.cluster(PATIENCE)
    assert [store.bodies for store in stores] == [1, 1]
