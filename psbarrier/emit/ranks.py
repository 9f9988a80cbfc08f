"""Ranks: the order that collectives give to the tasks of a spec, and who shares a host with whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from attrs import frozen

from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, MemberSpec, Task, host_of

FIRST = ("chief", "master")
"""The roles whose one task is rank 0."""
NO_WORKERS = ("ps", "server", "scheduler", "evaluator")
"""The roles that take no part in a collective."""


@frozen
class Local:
    """Which of the processes that one task starts: the `rank`-th (from 0) of `size`."""

    rank: int = 0
    size: int = 1


@frozen
class Place:
    """Where one process stands among all: each task starts `local.size` of them, whose ranks follow one another.

    `hosts` has the hosts in the order of their lowest ranks, and how many tasks each has.
    """

    ranked: tuple[MemberSpec, ...]
    hosts: Mapping[str, int]
    position: int
    local: Local

    @property
    def first(self) -> MemberSpec:
        """The member whose first process has rank 0."""
        return self.ranked[0]

    @property
    def rank(self) -> int:
        """Among all processes."""
        return self.position * self.local.size + self.local.rank

    @property
    def size(self) -> int:
        """How many processes there are in all."""
        return len(self.ranked) * self.local.size

    @property
    def host(self) -> str:
        """The host of this process."""
        return host_of(self.ranked[self.position].address)

    @property
    def on_host(self) -> int:
        """The rank among the processes of the same host."""
        before = sum(host_of(member.address) == self.host for member in self.ranked[: self.position])
        return before * self.local.size + self.local.rank

    @property
    def host_size(self) -> int:
        """How many processes there are on the same host."""
        return self.hosts[self.host] * self.local.size

    @property
    def peers(self) -> list[str]:
        """The hosts that have a process with the same `on_host`."""
        mine = self.on_host
        return [name for name, tasks in self.hosts.items() if tasks * self.local.size > mine]


def place(spec: ClusterSpec, task: Task, local: Local = Local()) -> Place:
    """The place of a process of `task`."""
    ranked = in_order(spec.members)
    hosts = Counter(host_of(member.address) for member in ranked)
    return Place(ranked, hosts, [member.task for member in ranked].index(task), local)


def in_order(members: Collection[MemberSpec]) -> tuple[MemberSpec, ...]:
    """A chief or master comes first, then the roles in the order of their names."""
    return tuple(sorted(members, key=lambda member: (member.task.role not in FIRST, member.task)))


def check_first(spec: ClusterSpec, framework: str) -> None:
    """Refuse a spec with several tasks that would be rank 0."""
    firsts = [str(member.task) for member in spec.members if member.task.role in FIRST]
    if len(firsts) > 1:
        raise InvalidArgumentError(
            f"{framework} has one rank 0, and {' and '.join(firsts[:2])} would both be it: give one chief or master"
        )


def check_workers(spec: ClusterSpec, framework: str) -> None:
    """Refuse a spec with tasks that have no part in a collective, or several that would be rank 0."""
    check_first(spec, framework)
    for role in spec.roles:
        if role in NO_WORKERS:
            raise InvalidArgumentError(
                f"every process of {framework} is a worker of one collective, and it has no part for the role {role!r}: "
                "leave the role out"
            )


def check_no_ipv6(spec: ClusterSpec, reason: str) -> None:
    """Refuse addresses that a framework cannot take, with its reason."""
    for member in spec.members:
        if ":" in host_of(member.address):
            raise InvalidArgumentError(
                f"{reason}, and {member.task} has {member.address!r}: give an IPv4 address or a name"
            )
