"""A cluster of three real etcds loses its leader, its quorum, its links and its data; EtcdStore keeps its promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from helpers import alive, eventually, python
from store.helpers import Beats, Recorder, exists, soon

from psbarrier.errors import ClosedError, InvalidArgumentError, StoreRefusedError, StoreUnavailableError
from psbarrier.etcd_cluster import EtcdCluster
from psbarrier.store.base import KV, Compare, Put, Range, Txn
from psbarrier.store.etcd import EtcdStore

# Clusters are as slow to start on every Python, and none of what is tested here depends on which it is.
pytestmark = pytest.mark.e2e

TTL = 5
PREFIX = "/cluster/"
PARENT = """
import signal
from psbarrier.etcd_cluster import EtcdCluster
cluster = EtcdCluster()
cluster.start()
print(*[member.pid for member in cluster.members], *[member.folder for member in cluster.members], flush=True)
signal.pause()
"""


@pytest.fixture
def cluster() -> Iterator[EtcdCluster]:
    """A cluster for this test alone, with its links."""
    with EtcdCluster() as made:
        made.wait_ready()
        yield made


def connect(cluster: EtcdCluster, first: int = 0, *others: int) -> EtcdStore:
    """A store over all members, or over these, that talks to `first` until that one fails."""
    order = [first, *(others or [index for index in range(len(cluster.members)) if index != first])]
    return EtcdStore([cluster.members[index].endpoint for index in order], timeout=2.0)


def uses(store: EtcdStore, cluster: EtcdCluster, index: int) -> bool:
    """Whether the store talks to that member now."""
    return repr(store).endswith(f"using {cluster.members[index].endpoint}>")


def read(store: EtcdStore, key: str) -> KV | None:
    """The key as it is now."""
    return store.read(Range(key), until=soon(store)).one(0)


def write(store: EtcdStore, key: str, lease: int = 0) -> None:
    """Create the key, exactly once, however many attempts that takes."""
    txn = Txn(compares=(Compare(key, "create", "==", 0),), then=(Put(key, b"", lease),))
    until = soon(store)
    while True:
        try:
            store.txn(txn, until=until)
        except StoreUnavailableError:  # applied or not: the compare makes the repeat harmless
            assert store.clock.now() < until, "no write succeeds"
        else:
            return


class Load:
    """Writes numbered keys, each exactly once, as fast as the cluster takes them, on a thread of its own."""

    def __init__(self, store: EtcdStore) -> None:
        self.keys: list[str] = []
        self._store = store
        self._stopping = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Write no more; raise what went wrong."""
        self._stopping.set()
        self._thread.join(60)
        assert not self._failed

    def more(self, count: int = 20) -> None:
        """Block until so many more keys are written."""
        goal = len(self.keys) + count
        assert eventually(lambda: len(self.keys) >= goal or self._failed), "the cluster takes no writes"
        assert not self._failed

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                key = f"{PREFIX}{len(self.keys):06}"
                write(self._store, key)
                self.keys.append(key)
        except BaseException as error:  # noqa: BLE001 (shown by stop())
            self._failed.append(error)


class Kept:
    """A lease that is kept alive, with a key on it."""

    def __init__(self, store: EtcdStore) -> None:
        self.beats = Beats()
        self._store = store
        self.lease = store.grant(TTL, until=soon(store))
        write(store, "/kept", self.lease)
        self._before = read(store, "/kept")
        store.keep(self.lease, interval=TTL / 3, on_beat=self.beats)
        self.await_beat()

    def await_beat(self) -> None:
        """Block until a beat that is sent from now on is answered."""
        now = self._store.clock.now()
        self.beats.wait_for(lambda: bool(self.beats.sent) and self.beats.sent[-1] > now)

    def check(self) -> None:
        """It lives, and has never been reported dead."""
        self.await_beat()
        assert set(self.beats.ttls) == {TTL}
        assert read(self._store, "/kept") == self._before


def assert_complete(sink: Recorder, keys: list[str]) -> None:
    """The sink heard of each key once, in order, and of no gap."""
    sink.wait_for_key(keys[-1])
    assert sink.keys == keys
    assert sink.revisions == sorted(sink.revisions)
    assert not sink.snapshots
    assert not sink.failures


# -- the cluster itself


def test_what_one_member_writes_the_others_read(cluster: EtcdCluster) -> None:
    """They are one cluster, and each can be reached by its own endpoint."""
    assert cluster.endpoints == ",".join(member.endpoint for member in cluster.members)
    for index in range(3):
        with EtcdStore(cluster.members[index].endpoint) as store:
            write(store, f"{PREFIX}{index}")
    with EtcdStore(cluster.members[0].endpoint) as store:
        assert all(exists(store, f"{PREFIX}{index}") for index in range(3))
    assert cluster.leader() in range(3)


def test_nothing_is_left_after_it() -> None:
    """No process, no folder, no thread."""
    with EtcdCluster(links=False) as cluster:
        pids, folders = [member.pid for member in cluster.members], [member.folder for member in cluster.members]
        cluster.wait_ready()
    with EtcdCluster() as cluster:
        pids += [member.pid for member in cluster.members]
        folders += [member.folder for member in cluster.members]
    cluster.close()
    assert not any(alive(pid) for pid in pids if pid is not None)
    assert not any(folder.exists() for folder in folders)
    assert "psbarrier-links" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ClosedError):
        cluster.heal()


def test_a_parent_killed_by_sigkill_leaves_no_member_and_no_folder() -> None:
    """As for a single EtcdServer."""
    with python(PARENT) as parent:
        assert parent.stdout is not None
        said = parent.stdout.readline().split()
        parent.kill()
    pids, folders = [int(word) for word in said[:3]], [Path(word) for word in said[3:]]
    assert len(folders) == 3
    assert eventually(lambda: not any(map(alive, pids)) and not any(folder.exists() for folder in folders))


def test_members_that_do_not_come_up_say_why_and_leave_nothing() -> None:
    """etcd's last words are in the error."""
    cluster = EtcdCluster(extra_args=["--no-such-flag"])
    with pytest.raises(StoreUnavailableError, match="no-such-flag"), cluster:
        pass
    assert not any(member.folder.exists() for member in cluster.members)


def test_what_cannot_be_asked_for_is_refused() -> None:
    """No members, unknown members, members on two sides, links that are not there."""
    with pytest.raises(InvalidArgumentError, match="1 to 9"):
        EtcdCluster(0)
    with pytest.raises(ClosedError, match=r"start\(\)"):
        EtcdCluster().endpoints  # noqa: B018 - the access itself raises
    with EtcdCluster(1) as single:
        assert single.leader() == 0
        with pytest.raises(InvalidArgumentError, match="no member 3"):
            single.partition({3})
        with pytest.raises(InvalidArgumentError, match="one side"):
            single.partition({0}, {0})
        with pytest.raises(InvalidArgumentError, match="0 or more"):
            single.slow(-1)
        with pytest.raises(StoreRefusedError, match="lease not found"):
            single.revoke(1)
    with pytest.raises(InvalidArgumentError, match="links=True"):
        EtcdCluster(links=False).heal()


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
def test_only_the_majority_of_a_partition_goes_on_and_all_converge_after_it(cluster: EtcdCluster, silent: bool) -> None:
    """The minority refuses writes, the majority elects a leader, and what the majority wrote is what counts."""
    old = cluster.leader()
    others = [index for index in range(3) if index != old]
    with connect(cluster, *others) as majority, EtcdStore(cluster.members[old].endpoint) as minority:
        cluster.partition({old}, silent=silent)
        assert cluster.leader() in others
        with pytest.raises(StoreUnavailableError):
            minority.txn(Txn(then=(Put("/lost", b""),)), until=minority.clock.now() + 2)
        write(majority, "/won")
        with pytest.raises(StoreUnavailableError):
            minority.read(Range("/won"), until=minority.clock.now() + 1)
        cluster.heal()
        cluster.wait_ready()
        assert exists(minority, "/won")
        write(minority, "/after")
        assert exists(majority, "/after")


def test_a_delay_is_felt(cluster: EtcdCluster) -> None:
    """Peers: a write has to reach another member and come back. Clients: a request and its answer."""
    with EtcdStore(cluster.members[0].endpoint) as store:
        write(store, "/before")
        cluster.slow(0.2)
        start = store.clock.now()
        write(store, "/peers")
        assert store.clock.now() - start >= 0.4
        cluster.heal()
        cluster.slow_clients(0.2, 0)
        start = store.clock.now()
        write(store, "/clients")
        assert store.clock.now() - start >= 0.4


def test_members_without_a_quorum_come_back_together(cluster: EtcdCluster) -> None:
    """All were killed: start() starts them at once, since none answers before two run."""
    with connect(cluster) as store:
        write(store, "/kept")
        for member in cluster.members:
            member.kill()
        cluster.members[2].start(wait=False)
        cluster.start()
        cluster.wait_ready()
        assert exists(store, "/kept")


def test_a_lease_is_revoked_for_its_holder(cluster: EtcdCluster) -> None:
    """What is bound to it is gone at once, and the holder's next beat learns it."""
    with connect(cluster) as store:
        kept = Kept(store)
        cluster.revoke(kept.lease)
        assert not exists(store, "/kept")
        kept.beats.wait_for(lambda: kept.beats.ttls[-1] <= 0)


# -- EtcdStore over it


def test_a_killed_leader_costs_neither_writes_nor_events_nor_the_lease(cluster: EtcdCluster) -> None:
    """Twice, with the killed member coming back in between, under load."""
    sink = Recorder()
    leader = cluster.leader()
    with connect(cluster, leader) as store, connect(cluster, leader) as loading:
        kept = Kept(store)
        store.watch(PREFIX, sink, until=soon(store))
        with Load(loading) as load:
            for _ in range(2):
                load.more()
                killed = cluster.kill_leader()
                load.more()
                cluster.members[killed].start()
                cluster.wait_ready()
            load.more()
        assert_complete(sink, load.keys)
        kept.check()


def test_a_lost_quorum_costs_nothing_but_time(cluster: EtcdCluster) -> None:
    """Longer than the TTL no write succeeds; then the lease, the watch and all data are there."""
    sink = Recorder()
    survivor = 0
    with connect(cluster, survivor) as store:
        kept = Kept(store)
        store.watch(PREFIX, sink, until=soon(store))
        write(store, PREFIX + "before")
        cluster.members[1].kill()
        cluster.members[2].kill()
        with pytest.raises(StoreUnavailableError) as caught:
            store.read(Range("/kept"), until=store.clock.now() + TTL + 1)
        assert set(caught.value.reasons) == set(store.endpoints)
        cluster.start()
        cluster.wait_ready()
        write(store, PREFIX + "after")
        assert_complete(sink, [PREFIX + "before", PREFIX + "after"])
        kept.check()


@pytest.mark.parametrize(
    ("role", "silent"),
    [
        pytest.param("leader", True, id="leader-silent"),
        pytest.param("follower", False, id="follower-cut"),
        pytest.param("leader", False, id="leader-cut", marks=pytest.mark.slow),
        pytest.param("follower", True, id="follower-silent", marks=pytest.mark.slow),
    ],
)
def test_a_store_leaves_a_member_that_lost_its_quorum(cluster: EtcdCluster, role: str, silent: bool) -> None:
    """The member answers its clients, but knows no leader: the watch and the beats move on, and nothing is lost."""
    leader, sink = cluster.leader(), Recorder()
    member = leader if role == "leader" else (leader + 1) % 3
    others = [index for index in range(3) if index != member]
    with connect(cluster, member) as store, connect(cluster, *others) as writer:
        kept = Kept(store)
        store.watch(PREFIX, sink, until=soon(store))
        write(store, PREFIX + "before")
        cluster.partition({member}, silent=silent)
        write(writer, PREFIX + "during")
        sink.wait_for_key(PREFIX + "during")
        assert not uses(store, cluster, member)
        kept.check()
        cluster.heal()
        write(writer, PREFIX + "healed")
        assert_complete(sink, [PREFIX + "before", PREFIX + "during", PREFIX + "healed"])


def test_a_member_that_lost_its_quorum_gives_no_stale_answer(cluster: EtcdCluster) -> None:
    """A leader that does not know yet that it is none cannot confirm a read; the answer comes from the others."""
    leader = cluster.leader()
    others = [index for index in range(3) if index != leader]
    with connect(cluster, leader) as store, connect(cluster, *others) as writer:
        assert read(store, "/value") is None
        assert uses(store, cluster, leader)
        cluster.partition({leader})
        write(writer, "/value")
        assert read(store, "/value") is not None


def test_a_deposed_leader_that_does_not_know_it_declares_no_lease_dead(cluster: EtcdCluster) -> None:
    """It never heard of a lease that its successor granted, says so, and is not believed."""
    leader, beats = cluster.leader(), Beats()
    others = [index for index in range(3) if index != leader]
    with connect(cluster, leader) as store, connect(cluster, *others) as successor:
        store.probe(until=soon(store))
        cluster.members[leader].pause()
        cluster.partition({leader}, silent=True)
        lease = successor.grant(TTL, until=soon(successor))
        cluster.members[leader].resume()
        store.keep(lease, interval=TTL / 3, on_beat=beats)
        beats.wait_for(lambda: len(beats.ttls) >= 2)
        assert set(beats.ttls) == {TTL}
        assert not uses(store, cluster, leader)


def test_a_watch_alone_notices_that_its_member_lost_the_quorum(cluster: EtcdCluster) -> None:
    """No request and no beat helps it: the member itself ends a stream that asked for one with a leader."""
    sink = Recorder()
    with connect(cluster, 0) as store, connect(cluster, 1, 2) as writer:
        store.watch(PREFIX, sink, until=soon(store))
        cluster.partition({0})
        write(writer, PREFIX + "during")
        assert_complete(sink, [PREFIX + "during"])
        assert not uses(store, cluster, 0)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_store_leaves_a_frozen_member(cluster: EtcdCluster, role: str) -> None:
    """SIGSTOP: the connection is up, and nobody answers. After it goes on, it tells nothing that is out of date."""
    leader, sink = cluster.leader(), Recorder()
    member = leader if role == "leader" else (leader + 1) % 3
    others = [index for index in range(3) if index != member]
    with connect(cluster, member) as store, connect(cluster, *others) as writer:
        kept = Kept(store)
        store.watch(PREFIX, sink, until=soon(store))
        write(store, PREFIX + "before")
        cluster.members[member].pause()
        write(writer, PREFIX + "during")
        sink.wait_for_key(PREFIX + "during")
        assert not uses(store, cluster, member)
        cluster.members[member].resume()
        with connect(cluster, member) as direct:
            assert exists(direct, PREFIX + "during")
        write(writer, PREFIX + "resumed")
        assert_complete(sink, [PREFIX + "before", PREFIX + "during", PREFIX + "resumed"])
        kept.check()


def test_slow_links_slow_everything_down_and_break_nothing(cluster: EtcdCluster) -> None:
    """A tenth of a second more on each way: no event is lost, no beat is missed, nobody moves."""
    sink = Recorder()
    with connect(cluster) as store, connect(cluster) as loading:
        cluster.slow(0.1)
        cluster.slow_clients(0.1, 0)
        kept = Kept(store)
        store.watch(PREFIX, sink, until=soon(store))
        with Load(loading) as load:
            load.more(5)
        assert_complete(sink, load.keys)
        kept.check()
        assert uses(store, cluster, 0)


def test_a_compaction_while_the_store_is_cut_off_gives_a_snapshot(cluster: EtcdCluster) -> None:
    """All members are out of the store's reach; what it missed is told as the state that it led to."""
    sink = Recorder()
    with connect(cluster) as store:
        store.watch(PREFIX, sink, until=soon(store))
        write(store, PREFIX + "a")
        sink.wait_for_key(PREFIX + "a")
        for index in range(3):
            cluster.isolate_clients(index)
        with EtcdStore(cluster.members[1].direct) as direct:
            write(direct, PREFIX + "b")
            write(direct, PREFIX + "c")
            last = read(direct, PREFIX + "c")
        assert last is not None
        assert cluster.compact() >= last.mod
        cluster.heal()
        sink.wait_for(lambda: bool(sink.snapshots))
        write(store, PREFIX + "d")
        sink.wait_for_key(PREFIX + "d")
    [(kvs, revision)] = sink.snapshots
    assert [kv.key for kv in kvs] == [PREFIX + "a", PREFIX + "b", PREFIX + "c"]
    assert revision >= last.mod
    assert sink.keys == [PREFIX + "a", PREFIX + "d"]


def test_compacting_and_defragmenting_under_load_loses_nothing(cluster: EtcdCluster) -> None:
    """A store that keeps up does not notice, whichever member works on its file."""
    sink = Recorder()
    with connect(cluster) as store, connect(cluster, 1) as loading:
        kept = Kept(store)
        store.watch(PREFIX, sink, until=soon(store))
        with Load(loading) as load:
            for index in range(3):
                load.more(100)
                sink.wait_for_key(load.keys[-1])
                cluster.compact()
                cluster.defragment(index)
            load.more()
        assert_complete(sink, load.keys)
        kept.check()


def test_a_cluster_that_comes_back_empty_ends_leases_and_is_told_as_a_snapshot(cluster: EtcdCluster) -> None:
    """Nobody goes on as if it were the old one."""
    sink = Recorder()
    with connect(cluster) as store:
        for number in range(20):
            write(store, f"/elsewhere/{number}")
        kept = Kept(store)
        watch = store.watch(PREFIX, sink, until=soon(store))
        write(store, PREFIX + "before")
        sink.wait_for_key(PREFIX + "before")
        cluster.wipe_and_restart()
        kept.beats.wait_for(lambda: kept.beats.ttls[-1] <= 0)
        sink.wait_for(lambda: bool(sink.snapshots))
        write(store, PREFIX + "after")
        sink.wait_for_key(PREFIX + "after")
    [(kvs, revision)] = sink.snapshots
    assert not kvs
    assert revision < watch.revision
    assert sink.keys == [PREFIX + "before", PREFIX + "after"]


def test_a_member_that_lags_behind_does_not_turn_the_watch_back(cluster: EtcdCluster) -> None:
    """The store moves to a member that has not heard yet of what the store has seen: nothing comes twice, or never."""
    leader, sink = cluster.leader(), Recorder()
    near, behind = (leader + 1) % 3, (leader + 2) % 3
    with connect(cluster, near, behind) as store, connect(cluster, leader) as writer:
        store.watch(PREFIX, sink, until=soon(store))
        cluster.slow(0.8, {behind}, {leader, near})
        keys = [f"{PREFIX}{number:04}" for number in range(100)]
        for key in keys:
            write(writer, key)
        sink.wait_for_key(keys[-1])
        cluster.isolate_clients(near)
        write(writer, PREFIX + "last")
        assert_complete(sink, [*keys, PREFIX + "last"])
        assert uses(store, cluster, behind)


def test_clients_whose_member_falls_silent_move_on(cluster: EtcdCluster) -> None:
    """The path to one member swallows everything; the member itself is well."""
    sink = Recorder()
    with connect(cluster, 0) as store, connect(cluster, 1, 2) as writer:
        kept = Kept(store)
        store.watch(PREFIX, sink, until=soon(store))
        cluster.isolate_clients(0, silent=True)
        write(writer, PREFIX + "during")
        sink.wait_for_key(PREFIX + "during")
        assert not uses(store, cluster, 0)
        kept.check()
        cluster.heal()
        write(writer, PREFIX + "healed")
        assert_complete(sink, [PREFIX + "during", PREFIX + "healed"])
