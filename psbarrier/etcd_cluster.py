"""Several real etcds on this machine that are one cluster, and what can go wrong with a cluster, on command."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from psbarrier.cluster_links import ClusterLinks
from psbarrier.embedded import NAME, READY_TIMEOUT, free_ports
from psbarrier.errors import InvalidArgumentError, StoreUnavailableError
from psbarrier.etcd_member import EtcdMember, MemberStatus

T = TypeVar("T")
Statuses = dict[int, MemberStatus]

_POLL = 0.05  # seconds between two questions
_WORK = 60.0  # seconds for a compaction or a defragmentation


class EtcdCluster:
    """Real etcds on loopback, as a context manager: `with EtcdCluster() as cluster: connect(cluster.endpoints)`.

    `cluster.members[i]` is one of them: `endpoint`, `kill()`, `stop()`, `start()`, `restart()`, `pause()`, `resume()`, as
    of an EtcdServer. One that is started waits until it answers, and so needs a quorum: after a loss of the quorum,
    `cluster.start()` starts all that do not run at once (or give `start(wait=False)`).

    With `links`, the connections between the members, and those of their clients, go through this process, where they
    can be cut, silenced and slowed down; without, the methods for that raise InvalidArgumentError. `extra_args` are flags
    for every member; TLS for clients is not supported. For one thread at a time. All is gone when this process ends,
    however it ends.
    """

    def __init__(
        self,
        members: int = 3,
        *,
        binary: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
        links: bool = True,
    ) -> None:
        if not 1 <= members <= 9:
            raise InvalidArgumentError(f"A cluster for tests has 1 to 9 members, not {members}.")
        self._links = (
            ClusterLinks(members, lambda i: self.members[i].client_port, lambda i: self.members[i].peer_port)
            if links
            else None
        )
        if self._links is not None:
            peers = [f"https://{host}" for host in self._links.hosts]
        else:
            peers = [f"http://127.0.0.1:{port}" for port in free_ports(members)]
        token = f"{NAME}-{secrets.token_hex(8)}"
        self.members = tuple(
            EtcdMember(index, peers, token, links=self._links, binary=binary, extra_args=extra_args)
            for index in range(members)
        )

    def __repr__(self) -> str:
        return f"<EtcdCluster of {len(self.members)}: {', '.join(map(repr, self.members))}>"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def endpoints(self) -> str:
        """The endpoints of all members, "host:port,host:port,…", as `connect()` takes them; the same after restarts."""
        return ",".join(member.endpoint for member in self.members)

    # -- life

    def start(self) -> None:
        """Start every member that does not run, with the data it had, and return once all of those answer.

        Raises StoreUnavailableError, with a member's last words, when one does not answer within 30 seconds.
        """
        if self._links is not None:
            self._links.open()
        with ThreadPoolExecutor(len(self.members)) as pool:
            for started in [pool.submit(member.start) for member in self.members]:
                started.result()

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Return once every member runs, follows one leader and has applied what that one has.

        Raises StoreUnavailableError after `timeout` seconds.
        """
        goal = 0

        def converged(statuses: Statuses) -> bool | None:
            nonlocal goal
            leaders = {status.leader for status in statuses.values()}
            if len(statuses) < len(self.members) or len(leaders) > 1 or leaders == {0}:
                return None
            goal = goal or max(status.index for status in statuses.values())
            return min(status.applied for status in statuses.values()) >= goal or None

        self._await(timeout, "did not converge", converged)

    def wipe_and_restart(self) -> None:
        """The cluster comes back empty: same endpoints, same identity, no data, revisions from 1 on."""
        for member in self.members:
            member.wipe()
        self.start()

    def close(self) -> None:
        """End every member, remove its data, and end the links. Idempotent."""
        for member in self.members:
            member.close()
        if self._links is not None:
            self._links.close()

    # -- the leader

    def leader(self, timeout: float = READY_TIMEOUT) -> int:
        """The index of the member that leads a majority of all members, and can prove it; waits until there is one.

        Raises StoreUnavailableError after `timeout` seconds.
        """
        quorum = len(self.members) // 2 + 1

        def elected(statuses: Statuses) -> int | None:
            votes = Counter(status.leader for status in statuses.values() if status.leader)
            leader = next((index for index, status in statuses.items() if votes[status.id] >= quorum), None)
            # Just after a partition even the others take the old one for their leader.
            return leader if leader is not None and self.members[leader].leads() else None

        return self._await(timeout, "agreed on no leader", elected)

    def kill_leader(self) -> int:
        """Kill the leader (SIGKILL); its index. The others elect a new one about a second later."""
        leader = self.leader()
        self.members[leader].kill()
        return leader

    # -- the links

    def partition(self, *groups: Collection[int], silent: bool = False) -> None:
        """Cut the links between members of different groups: `partition({0}, {1, 2})`; replaces an earlier partition.

        Members that no group names are one more group. The connections break and new ones are refused; with
        `silent`, they stay open and carry nothing. Clients reach all members as before.
        """
        self._need_links().partition(*groups, silent=silent)

    def isolate_clients(self, member: int, *, silent: bool = False) -> None:
        """Cut the clients of one member off from it, until `heal()`; `silent` as for `partition()`."""
        self._need_links().isolate(member, silent=silent)

    def slow(self, seconds: float, one: Collection[int] | None = None, other: Collection[int] | None = None) -> None:
        """Delay what the members tell each other by so many seconds in each direction; 0 ends that.

        That concerns the links between `one` and `other`: `slow(0.1, {0}, {1, 2})`; each is all members by default.
        """
        everyone = range(len(self.members))
        self._need_links().slow(seconds, everyone if one is None else one, everyone if other is None else other)

    def slow_clients(self, seconds: float, member: int) -> None:
        """Delay what a member and its clients tell each other by so many seconds in each direction; 0 ends that."""
        self._need_links().slow_clients(seconds, member)

    def heal(self) -> None:
        """End every partition, isolation and delay. What was held back arrives."""
        self._need_links().heal()

    def _need_links(self) -> ClusterLinks:
        if self._links is None:
            raise InvalidArgumentError("This cluster has no links to break; make it with links=True.")
        return self._links

    # -- what an administrator does

    def compact(self, revision: int | None = None) -> int:
        """Let etcd forget its history before `revision`, by default before the current one; that revision."""
        leader = self.members[self.leader()]
        if revision is None:
            revision = int(leader.ask("maintenance/status")["header"]["revision"])
        leader.ask("kv/compaction", timeout=_WORK, revision=str(revision), physical=True)
        return revision

    def defragment(self, member: int) -> None:
        """Let a member rewrite its database file; it answers nobody meanwhile."""
        self.members[member].ask("maintenance/defragment", timeout=_WORK)

    def revoke(self, lease: int) -> None:
        """End a lease, as if its holder had died and its time were over."""
        self.members[self.leader()].ask("lease/revoke", ID=str(lease))

    def _await(self, timeout: float, what: str, find: Callable[[Statuses], T | None]) -> T:
        """Ask all members how they are, until `find` finds something in their answers."""
        started = time.monotonic()
        while True:
            statuses = {member.index: status for member in self.members if (status := member.status()) is not None}
            found = find(statuses)
            if found is not None:
                return found
            if time.monotonic() - started > timeout:
                reasons = {member.direct: str(statuses.get(member.index, "no answer")) for member in self.members}
                raise StoreUnavailableError.after(timeout, what, reasons, applied=False)
            time.sleep(_POLL)
