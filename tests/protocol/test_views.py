"""Views: reads, watch events and replies may come in any order, twice, or late; what is known is never forgotten."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psbarrier.errors import MalformedValueError
from psbarrier.protocol.barrier_records import BarrierRecord
from psbarrier.protocol.keys import Attempt, JobKeys
from psbarrier.protocol.records import Leader, Registration, pack_state
from psbarrier.protocol.views import ControlView, Roster, View
from psbarrier.spec import Task
from psbarrier.state import JobState
from psbarrier.store.base import KV, Delete, Event, Put, Range, Txn, prefix_end
from psbarrier.store.memory_kv import Keyspace

PREFIX = "/j/control/"
NAMES = ("a", "b", "c")
KEYS = JobKeys("/psbarrier", "job").run("r1")


class History:
    """What happened to three keys: the events of each revision, and how everything stood after it."""

    def __init__(self, steps: Iterable[tuple[str, bool]]) -> None:
        self.space = Keyspace()
        self.events: list[tuple[Event, ...]] = []
        self.stood: dict[int, dict[str, KV]] = {1: {}}
        for number, (name, delete) in enumerate(steps):
            key = PREFIX + name
            self.apply(Txn(then=(Delete(key) if delete else Put(key, str(number).encode()),)))

    def apply(self, txn: Txn) -> None:
        _, events = self.space.apply(txn)
        if events:
            self.events.append(events)
            self.stood[self.space.revision] = {kv.key: kv for kv in self.space.kvs(PREFIX)}


HISTORIES = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=12).map(History)


def shown(view: View) -> dict[str, KV]:
    return {key: kv for name in NAMES if (kv := view.get(key := PREFIX + name)) is not None}


@given(history=HISTORIES, data=st.data())
def test_a_view_shows_each_key_as_the_newest_word_of_it(history: History, data: st.DataObject) -> None:
    """Whatever comes in whatever order: a key stands as it stood at the newest revision that anybody has told of."""
    view = View(PREFIX)
    told = dict.fromkeys(NAMES, 1)
    kinds = st.sampled_from(("event", "event", "event", "snapshot", "read"))
    for kind in data.draw(st.lists(kinds, max_size=25)):
        if kind == "event" and history.events:
            events = data.draw(st.sampled_from(history.events))
            view.fold_events(events)
            name, revision = events[0].kv.key.removeprefix(PREFIX), events[0].kv.mod
            told[name] = max(told[name], revision)
        elif kind == "snapshot":
            revision = data.draw(st.sampled_from(sorted(history.stood)))
            view.fold_snapshot(tuple(history.stood[revision].values()), revision)
            told = {name: max(known, revision) for name, known in told.items()}
        else:
            name, revision = data.draw(st.sampled_from(NAMES)), data.draw(st.sampled_from(sorted(history.stood)))
            kv = history.stood[revision].get(PREFIX + name)
            view.fold(kv) if kv is not None else view.fold_missing(PREFIX + name, revision)
            told[name] = max(told[name], revision)
        expected = {
            PREFIX + name: kv for name, at in told.items() if (kv := history.stood[at].get(PREFIX + name)) is not None
        }
        assert shown(view) == expected


@given(history=HISTORIES, data=st.data())
def test_all_events_in_any_order_and_twice_make_the_same_view(history: History, data: st.DataObject) -> None:
    """And a view that missed any of them is the same after one snapshot."""
    view = View(PREFIX)
    for events in data.draw(st.permutations(history.events * 2)):
        view.fold_events(events)
    assert shown(view) == history.stood[max(history.stood)]
    lagging = View(PREFIX)
    for events in data.draw(st.lists(st.sampled_from(history.events or [()]), max_size=5)):
        lagging.fold_events(events)
    lagging.fold_snapshot(history.space.kvs(PREFIX), history.space.revision)
    assert shown(lagging) == shown(view)
    assert lagging.complete == history.space.revision


@given(history=HISTORIES, name=st.sampled_from(NAMES), late=st.booleans())
def test_a_reply_and_its_event_agree_in_either_order(history: History, name: str, late: bool) -> None:
    """What a process put itself is known before the watch tells of it, and is then exactly what etcd holds."""
    view = View(PREFIX)
    for events in history.events:
        view.fold_events(events)
    txn = Txn(then=(Put(PREFIX + name, b"mine"),))
    reply, events = history.space.apply(txn)
    if late:
        view.fold_events(events)
    view.fold_reply(txn, reply)
    kv = view.get(PREFIX + name)
    assert kv is not None
    assert (kv.value, kv.mod) == (b"mine", reply.revision)
    view.fold_events(events)
    assert shown(view) == {kv.key: kv for kv in history.space.kvs(PREFIX)}


def test_a_snapshot_is_not_undone_by_what_came_before_it() -> None:
    """An old deletion does not open the way for an old event: both are older than what was read."""
    view = View(PREFIX)
    view.fold_snapshot((), 20)
    view.fold_missing(PREFIX + "a", 5)
    view.fold(KV(PREFIX + "a", b"old", 8, 8, 1))
    assert view.get(PREFIX + "a") is None


def test_a_reply_is_read_branch_by_branch() -> None:
    """Nested branches count as they ran; other prefixes, and ranges that show only a part, tell nothing."""
    space, view = Keyspace(), View(PREFIX)
    inner = Txn(then=(Put(PREFIX + "b", b"2"),), otherwise=(Put(PREFIX + "c", b"3"),))
    outer = Txn(then=(Put(PREFIX + "a", b"1"), Put("/j/other", b"0"), inner, Delete(PREFIX + "never")))
    view.fold_reply(outer, space.apply(outer)[0])
    assert {key: kv.value for key, kv in shown(view).items()} == {PREFIX + "a": b"1", PREFIX + "b": b"2"}
    assert view.get("/j/other") is None
    for part in (Range(PREFIX, prefix_end(PREFIX), limit=1), Range(PREFIX, prefix_end(PREFIX), keys_only=True)):
        txn = Txn(then=(part,))
        view.fold_reply(txn, space.apply(txn)[0])
        assert len(shown(view)) == 2
    space.apply(Txn(then=(Delete(PREFIX + "a"),)))
    whole = Txn(then=(Range(PREFIX, prefix_end(PREFIX)),))
    view.fold_reply(whole, space.apply(whole)[0])
    assert set(shown(view)) == {PREFIX + "b"}


def test_every_change_is_counted() -> None:
    """A reader can tell that it has looked since: what changes nothing is not counted."""
    view = View(PREFIX)
    kv = KV(PREFIX + "a", b"1", 2, 2, 1)
    seen = []
    for _ in range(2):
        for _ in range(2):
            view.fold(kv)
            seen.append(view.changes)
        view.fold_missing(kv.key, 3)
        seen.append(view.changes)
    assert seen == [1, 1, 2, 2, 2, 2]


def test_a_control_view_tells_how_the_run_stands() -> None:
    """Before anything was written there is no leader, no spec, a barrier at its beginning, and a running job."""
    view = ControlView(KEYS)
    assert (view.leader, view.leader_create, view.seal, view.state) == (None, 0, None, JobState())
    assert (view.barrier("b").record, view.barrier("b").mod) == (BarrierRecord(), 0)
    assert not view.gone.lost
    assert view.shared("seed") is None
    view.fold(KV(KEYS.barrier("b"), BarrierRecord(Attempt(3)).pack(), 2, 7, 4))
    assert (view.barrier("b").record.attempt, view.barrier("b").mod) == (Attempt(3), 7)


def test_what_was_expected_is_not_decoded_and_anything_else_is() -> None:
    """Whoever has made a value knows what it means; but it is what stands in etcd that counts."""
    view, key = ControlView(KEYS), KEYS.barrier("b")
    meant = BarrierRecord(Attempt(3))
    view.expect(key, meant.pack(), meant)
    view.fold(KV(key, meant.pack(), 2, 7, 4))
    assert view.barrier("b").record is meant
    view.fold(KV(key, BarrierRecord(Attempt(4)).pack(), 2, 8, 5))
    assert view.barrier("b").record == BarrierRecord(Attempt(4))


def test_the_end_counts_only_when_nothing_is_missing() -> None:
    """A reply may tell of the end before the watch has told what happened first: a release, for example."""
    view = ControlView(KEYS)
    over = Put(KEYS.state, pack_state(JobState("failed", "worker/0", "lost")))
    space = Keyspace()
    _, events = space.apply(Txn(then=(Put(KEYS.barrier("b"), BarrierRecord(Attempt(1)).pack()),)))
    reply, more = space.apply(Txn(then=(over,)))
    view.fold_reply(Txn(then=(over,)), reply)
    assert view.state.over
    assert not view.ended
    view.fold_events(events)
    assert not view.ended
    view.fold_events(more)
    assert view.ended


def test_what_lives_as_long_as_the_run_is_missed_when_it_goes() -> None:
    """Leaders come and go; any other control key that goes, or is made anew, means that the run has gone."""
    view = ControlView(KEYS)
    leader, barrier = Leader("worker/0", "i").pack(), BarrierRecord().pack()
    view.fold(KV(KEYS.leader, leader, 2, 2, 1))
    view.fold(KV(KEYS.barrier("b"), barrier, 3, 3, 1))
    view.fold(KV(KEYS.barrier("b"), barrier, 3, 4, 2))
    view.fold_missing(KEYS.leader, 5)
    view.fold(KV(KEYS.leader, leader, 6, 6, 1))
    assert view.vanished == 0
    view.fold(KV(KEYS.barrier("b"), barrier, 8, 8, 1))
    assert view.vanished == 1
    view.fold_snapshot((), 9)
    assert view.vanished == 2


def test_a_malformed_value_is_named_where_it_is_read() -> None:
    """And only there: the rest of the view goes on."""
    view = ControlView(KEYS)
    view.fold(KV(KEYS.state, b"nonsense", 2, 2, 1))
    with pytest.raises(MalformedValueError, match="control/state"):
        _ = view.state
    assert view.leader is None


def test_a_stranger_in_the_roster_counts_as_absent() -> None:
    """A key or value below members/ that is not ours keeps nobody from being counted."""
    roster, task = Roster(KEYS), Task("worker", 0)
    mine = Registration("h:1", "i")
    roster.fold(KV(KEYS.member(task), mine.pack(), 2, 2, 1))
    roster.fold(KV(f"{KEYS.members}nobody", mine.pack(), 3, 3, 1))
    roster.fold(KV(KEYS.member(Task("worker", 1)), b"nonsense", 4, 4, 1))
    assert roster.registrations == {task: mine}
    assert set(roster.malformed) == {f"{KEYS.members}nobody", KEYS.member(Task("worker", 1))}
    roster.fold_missing(KEYS.member(Task("worker", 1)), 5)
    assert roster.registrations == {task: mine}
    assert set(roster.malformed) == {f"{KEYS.members}nobody"}


def test_what_comes_while_the_roster_is_read_is_seen_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader reads it without a lock while the watch goes on: nothing is torn, and nothing is missed for good."""
    roster, unpack = Roster(KEYS), Registration.unpack
    packed = Registration("h:1", "a").pack()

    def put(index: int) -> None:
        roster.fold(KV(KEYS.member(Task("worker", index)), packed, 2 + index, 2 + index, 1))

    def interrupted(key: str, value: bytes) -> Registration:
        put(len(roster._kvs))
        monkeypatch.setattr(Registration, "unpack", unpack)
        return unpack(key, value)

    put(0)
    put(1)
    monkeypatch.setattr(Registration, "unpack", interrupted)
    assert {Task("worker", 0), Task("worker", 1)} <= set(roster.registrations)
    assert set(roster.registrations) == {Task("worker", index) for index in range(3)}
