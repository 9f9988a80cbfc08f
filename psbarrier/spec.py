"""The frozen values everything speaks in: Task, Replicas, MemberSpec, ClusterSpec. No IO."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from psbarrier.errors import InvalidArgumentError

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_TASK = re.compile(r"(.+)[/:]([0-9]{1,9})")
_USUAL_ADDRESS = re.compile(r"[A-Za-z0-9._-]{1,255}:([0-9]{1,5})")
_PORT = re.compile("[0-9]{1,5}")
_NO_HOST = re.compile(r"[\s/,]")
MAX_TASKS = 100_000
"""In one job."""
_LONGEST_HOST = 255


def is_name(text: str) -> bool:
    """Whether `text` can stand in a key as a name."""
    return _NAME.fullmatch(text) is not None


def check_name(kind: str, name: object) -> str:
    """`name` itself if it can stand in a key; else an InvalidArgumentError that says what is wrong with it.

    A name is 1 to 63 characters, letters, digits, `.`, `_` and `-`, and starts and ends with a letter or digit.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    shown = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "…"
    raise InvalidArgumentError(
        f"the {kind} {shown} is not a valid name: use 1 to 63 letters, digits, '.', '_' or '-', "
        "beginning and ending with a letter or digit"
    )


def check_address(address: object) -> str:
    """`address` itself if it reads `host:port` or `[ipv6]:port`; else an InvalidArgumentError."""
    if isinstance(address, str):
        usual = _USUAL_ADDRESS.fullmatch(address)  # each process checks those of all others
        if usual and 0 < int(usual[1]) < 65536:
            return address
        host, colon, port = address.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        printable = bare.isprintable() and len(bare) <= _LONGEST_HOST and not _NO_HOST.search(bare)
        well_formed = colon and bare and printable and (":" not in bare or bare != host)
        if well_formed and _PORT.fullmatch(port) and 0 < int(port) < 65536:
            return address
    raise InvalidArgumentError(
        f"the address {address!r:.300} is not 'host:port' with a port from 1 to 65535: give the one that the others can reach"
    )


def host_of(address: str) -> str:
    """The host of "host:port" or "[ipv6]:port", without brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def port_of(address: str) -> str:
    """The port of "host:port"."""
    return address.rpartition(":")[2]


@frozen(order=True, cache_hash=True)  # the leader of thousands looks each up many times a second
class Task:
    """One process's place in a job: the `index`-th (from 0) of a `role`."""

    role: str
    index: int

    def __attrs_post_init__(self) -> None:
        check_name("role", self.role)
        if isinstance(self.index, bool) or not isinstance(self.index, int) or self.index < 0:
            raise InvalidArgumentError(
                f"the index {self.index!r} of role {self.role!r} is not a whole number from 0 on"
            )

    def __str__(self) -> str:
        return f"{self.role}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> Task:
        """The task that "worker/3" or "worker:3" names."""
        match = _TASK.fullmatch(text)
        if not match:
            raise InvalidArgumentError(f"{text!r} names no task: write ROLE:INDEX, for example worker:3")
        return cls(match[1], int(match[2]))


@frozen
class Replicas:
    """How many tasks each role has; equal however it was written.

    A role with a least and a most, as in {"worker": (2, 8)}, is *elastic*: the job starts once the least is there, its
    tasks may come and go, and their indices are 0 to the most - 1, not all of which need to be there. (It is so also when
    the two are the same, (2, 2).)
    """

    counts: tuple[tuple[str, int], ...] = field()
    """Each role's tasks, at most."""
    least: tuple[tuple[str, int], ...] = ()
    """The least of each elastic role."""

    @classmethod
    def of(cls, given: Replicas | Mapping[str, int | Sequence[int]] | str) -> Replicas:
        """From a mapping such as {"ps": 2, "worker": 4}, or text such as "ps=2,worker=4"; or "worker=2:8"."""
        if isinstance(given, Replicas):
            return given
        pairs = _parse_replicas(given) if isinstance(given, str) else given
        if not isinstance(pairs, Mapping) or not pairs:
            raise InvalidArgumentError(f"the replicas {given!r} name no role: write for example ps=2,worker=4")
        bounds = {check_name("role", role): _bounds(role, count) for role, count in pairs.items()}
        counts = {role: most for role, (_, most, _) in bounds.items()}
        if sum(counts.values()) > MAX_TASKS:
            raise InvalidArgumentError(f"the replicas add up to {sum(counts.values())} tasks: {MAX_TASKS} is the most")
        least = sorted((role, low) for role, (low, _, elastic) in bounds.items() if elastic)
        return cls(tuple(sorted(counts.items())), tuple(least))

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of the roles, sorted."""
        return tuple(role for role, _ in self.counts)

    @property
    def size(self) -> int:
        """How many tasks there are in all, at most."""
        return sum(count for _, count in self.counts)

    @property
    def elastic_roles(self) -> frozenset[str]:
        """The roles that have a least and a most."""
        return frozenset(role for role, _ in self.least)

    def elastic(self, roles: Iterable[str] | None = None) -> bool:
        """Whether one of `roles` (of all roles by default) is elastic."""
        return not self.elastic_roles.isdisjoint(self.roles if roles is None else roles)

    def minimum(self, role: str) -> int:
        """How many tasks of `role` there must be, at least."""
        return dict(self.least).get(role, self[role])

    def least_size(self, roles: Iterable[str] | None = None) -> int:
        """How many tasks of `roles` (of all roles by default) there must be together, at least."""
        return sum(self.minimum(role) for role in (self.roles if roles is None else roles))

    def __getitem__(self, role: str) -> int:
        return dict(self.counts)[role]

    def __contains__(self, item: object) -> bool:
        counts = dict(self.counts)
        return item.index < counts.get(item.role, 0) if isinstance(item, Task) else item in counts

    def __str__(self) -> str:
        least = dict(self.least)
        return ",".join(
            f"{role}={least[role]}:{most}" if role in least else f"{role}={most}" for role, most in self.counts
        )

    def as_dict(self) -> dict[str, int | list[int]]:
        """{"ps": 2, "worker": [2, 8]}: what `of()` takes."""
        least = dict(self.least)
        return {role: [least[role], most] if role in least else most for role, most in self.counts}

    def tasks(self, roles: Iterable[str] | None = None) -> tuple[Task, ...]:
        """Every task of `roles` (of all roles by default) that there may be, sorted."""
        wanted = None if roles is None else set(roles)
        return tuple(
            Task(role, index)
            for role, count in self.counts
            if wanted is None or role in wanted
            for index in range(count)
        )

    def short_of(self, present: Collection[Task], roles: Iterable[str] | None = None) -> tuple[Task, ...]:
        """The tasks of `roles` without which the job cannot run, when those `present` are there.

        Every absent one of a role; of an elastic role only as many as are missing to its least, lowest index first.
        """
        wanted, short = set(self.roles if roles is None else roles), []
        elastic = self.elastic_roles
        for role, most in self.counts:
            if role in wanted:
                absent = [task for task in (Task(role, index) for index in range(most)) if task not in present]
                there = most - len(absent)
                short += absent[: max(0, self.minimum(role) - there)] if role in elastic else absent
        return tuple(short)

    def at(self, slot: int) -> Task:
        """The task number `slot`, counted from 0 over all roles in the order of their names.

        InvalidArgumentError when there are not so many.

        >>> str(Replicas.of("worker=4,ps=2").at(2))
        'worker/0'
        """
        if isinstance(slot, bool) or not isinstance(slot, int) or not 0 <= slot < self.size:
            raise InvalidArgumentError(
                f"slot {slot!r} is out of range: the replicas {self} have slots 0 to {self.size - 1}"
            )
        first = 0
        for role, count in self.counts:
            if slot < first + count:
                return Task(role, slot - first)
            first += count
        raise AssertionError(slot)

    def require(self, task: Task) -> Task:
        """`task` itself; raises InvalidArgumentError when there is no such task among these replicas."""
        counts = dict(self.counts)
        if task.role not in counts:
            near = difflib.get_close_matches(task.role, counts, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidArgumentError(f"there is no role {task.role!r} among the replicas {self}{hint}")
        if task.index >= counts[task.role]:
            raise InvalidArgumentError(
                f"index {task.index} of role {task.role!r} is out of range: "
                f"the replicas {self} have indices 0 to {counts[task.role] - 1}"
            )
        return task


def _bounds(role: str, given: Any) -> tuple[int, int, bool]:
    """The least and the most tasks of a role, and whether it is elastic."""
    pair = isinstance(given, list | tuple) and len(given) == 2  # a least and a most
    low, most = given if pair else (given, given)
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 1 for count in (low, most)):
        raise InvalidArgumentError(
            f"role {role!r} has {given!r} replicas: it needs a whole number from 1 on, or a least and a most, as (2, 8)"
        )
    if low > most:
        raise InvalidArgumentError(
            f"role {role!r} has at least {low} replicas and at most {most}: the least comes first"
        )
    return int(low), int(most), pair


def _parse_replicas(text: str) -> dict[str, int | tuple[int, int]]:
    pairs: dict[str, int | tuple[int, int]] = {}
    for part in text.split(","):
        role, equals, count = part.strip().partition("=")
        match = re.fullmatch(r"([0-9]{1,9})(?::([0-9]{1,9}))?", count.strip())
        if not equals or not match:
            raise InvalidArgumentError(
                f"the replicas {text!r} do not read ROLE=N,ROLE=N or ROLE=MIN:MAX: {part.strip()!r} does not fit"
            )
        if role.strip() in pairs:
            raise InvalidArgumentError(f"the replicas {text!r} name the role {role.strip()!r} twice")
        pairs[role.strip()] = int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))
    return pairs


@frozen
class MemberSpec:
    """One member as the sealed spec names it. `meta` is whatever JSON object the member gave to `join()`."""

    task: Task
    address: str
    incarnation: str = ""
    meta: Mapping[str, Any] = field(factory=dict)


@frozen
class ClusterSpec:
    """Who is who in one epoch of a run: sealed once, the same for all, never changed afterwards.

    `members` is sorted by task. A member that was replaced makes a later epoch; one that has finished stays in the
    spec under its last address.
    """

    job: str
    run: str
    epoch: int
    members: tuple[MemberSpec, ...]

    @classmethod
    def from_addresses(cls, addresses: Mapping[str, Sequence[str]], *, job: str = "static") -> ClusterSpec:
        """A spec without any etcd, from {"ps": ["host:port", …], …}; its epoch is 0."""
        members = []
        for role in sorted(addresses):
            if isinstance(addresses[role], str) or not addresses[role]:
                raise InvalidArgumentError(f"role {role!r} needs a list of 'host:port' addresses")
            for index, address in enumerate(addresses[role]):
                members.append(MemberSpec(Task(role, index), check_address(address)))
        if not members:
            raise InvalidArgumentError('the addresses name no role: give for example {"worker": ["host:port"]}')
        return cls(check_name("job", job), "static", 0, tuple(members))

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of the roles, sorted."""
        return tuple(dict.fromkeys(member.task.role for member in self.members))

    def addresses(self, role: str) -> list[str]:
        """The addresses of `role`, in the order of their indices."""
        return [member.address for member in self.members if member.task.role == role]

    def member(self, task: Task) -> MemberSpec:
        """What the spec says of `task`; InvalidArgumentError when it has no such task."""
        found = self.find(task)
        if found is not None:
            return found
        raise InvalidArgumentError(f"there is no task {task} in the cluster of job {self.job!r}: it has {self}")

    def find(self, task: Task) -> MemberSpec | None:
        """What the spec says of `task`, if it has it."""
        at = bisect_left(self.members, task, key=lambda member: member.task)
        found = self.members[at : at + 1]
        return found[0] if found and found[0].task == task else None

    def position(self, task: Task) -> int:
        """The place (from 0) of `task` among those of its role: its index, unless the role is elastic and some are not
        there."""
        return [member.task for member in self.members if member.task.role == task.role].index(task)

    def as_dict(self) -> dict[str, list[str]]:
        """{"ps": ["host:port", …], "worker": […]}: the form that TensorFlow calls a cluster."""
        return {role: self.addresses(role) for role in self.roles}

    def env(self, framework: str, task: Task, *, local_rank: int = 0, local_size: int = 1) -> dict[str, str]:
        """The environment from which `framework` ("tensorflow", "torch", …) learns who `task` and the others are.

        Where each task starts `local_size` processes itself, it is that of the `local_rank`-th (from 0).

        Raises InvalidArgumentError when there is no such format, task or local rank, and when the framework could not
        take this spec; the message then has the framework's rule.
        """
        from psbarrier import emit  # the emitters are built on these values

        return emit.environment(framework, self, task, local_rank=local_rank, local_size=local_size)

    def __str__(self) -> str:
        counts = {role: len(self.addresses(role)) for role in self.roles}
        return ",".join(f"{role}={count}" for role, count in counts.items())
