"""What to test with, for those who build a launcher, a scheduler or a training loop on psbarrier.

- `job()`: a whole job in memory, with members to kill, restart and cut off. No etcd, no network, no real time.
- `MemoryStore`: the store below it: etcd's semantics in a dict, a clock that moves by `advance()` only, failures on demand.
- `EtcdServer`: a real etcd in a temporary folder, for what only the real one can show.
- `EtcdCluster`: three of them, whose links to each other and to the clients can be cut, silenced and slowed.

The pytest plugin, which comes with the package, has `MemoryStore` and `EtcdServer` as the fixtures `psbarrier_store` and
`psbarrier_etcd`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from psbarrier.asking import TTL
from psbarrier.embedded import EtcdServer
from psbarrier.errors import InvalidArgumentError, LeaseNotFoundError
from psbarrier.etcd_cluster import EtcdCluster
from psbarrier.join import join
from psbarrier.member import Member
from psbarrier.policy import Policy
from psbarrier.spec import ClusterSpec, Replicas, Task
from psbarrier.store.manual_clock import ManualClock
from psbarrier.store.memory import MemoryStore

__all__ = ["EtcdCluster", "EtcdServer", "Job", "ManualClock", "MemoryStore", "job"]

R = TypeVar("R")
PATIENCE = 30.0
"""Real seconds after which a test that would hang fails instead."""


def job(
    ps: int = 2,
    worker: int = 4,
    *,
    store: MemoryStore | None = None,
    policy: Policy | None = None,
    ttl: int = TTL,
    name: str = "job",
    **roles: int,
) -> Job:
    """A whole job in memory: `with job(ps=1, worker=2) as j:` joins all of its members, and closes what is left.

    `ps`, `worker` and any other role are numbers of tasks; 0 leaves a role out. `store` is for several jobs in one
    keyspace. `ttl` is in seconds of the clock, which stands still: `j.advance(seconds)` moves it.

    >>> with job(ps=1, worker=2) as j:
    ...     print(j.cluster())
    ...     meet = lambda me: me.barrier("epoch", roles=("worker",)).wait(timeout=60)
    ...     print(sorted(j.together(meet, "worker/0", "worker/1").values()))
    ...     j.kill("worker/1")
    ...     again = j.restart("worker/1")
    ...     print(j.cluster().epoch, again.barrier("epoch", roles=("worker",)).generation)
    ps=1,worker=2
    [0, 1]
    2 1
    """
    counts = {role: count for role, count in {"ps": ps, "worker": worker, **roles}.items() if count != 0}
    return Job(Replicas.of(counts), store=store, policy=policy, ttl=ttl, name=name)


class Job:
    """The members of one job, each over a client of its own of one MemoryStore, as if each were a process.

    Deadlines, keep-alives, leases and graces run on the store's clock. What needs no time happens by itself, on the
    threads of the members: the sealing of a spec, the release of a barrier. What the leader publishes about losses is
    up to a quarter of a second of the clock late.
    """

    def __init__(
        self, replicas: Replicas, *, store: MemoryStore | None, policy: Policy | None, ttl: int, name: str
    ) -> None:
        self.replicas, self.name = replicas, name
        self.store = store if store is not None else MemoryStore()
        self._owns_store = store is None
        self._policy, self._ttl = policy or Policy(), ttl
        self._members: dict[Task, Member] = {}
        self._clients: dict[Task, MemoryStore] = {}
        self._killed: set[Task] = set()
        self._ports = iter(range(2222, 65536))
        self._threads: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<Job {self.name!r} of {self.replicas}: {len(self)} members>"

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(max_workers=4 * self.replicas.size, thread_name_prefix="psbarrier-job")
        try:
            for task in self.replicas.tasks():
                self._join(task)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the members

    def __getitem__(self, task: str | Task) -> Member:
        """The member that holds the task; InvalidArgumentError when it was killed."""
        wanted = self._task(task)
        if wanted not in self._members:
            raise InvalidArgumentError(f"{wanted} does not run: restart({str(wanted)!r}) starts it again")
        return self._members[wanted]

    def __iter__(self) -> Iterator[Member]:
        """The members that were not killed, sorted by task."""
        return iter([self._members[task] for task in sorted(self._members)])

    def __len__(self) -> int:
        return len(self._members)

    def client(self, task: str | Task) -> MemoryStore:
        """The member's own connection: `cut()` and `heal()` it, `hold()` its watches, let it `fail_next()`.

        A member that is cut off waits for its deadlines as every other does: in the clock's time.
        """
        self[task]
        return self._clients[self._task(task)]

    def kill(self, task: str | Task) -> None:
        """End a member as SIGKILL and the end of its TTL do: it says nothing, and its lease is gone.

        A thread that still waits in one of its calls gets ClosedError.
        """
        member = self[task]
        self._stop(member.task)
        self._killed.add(member.task)
        with contextlib.suppress(LeaseNotFoundError):  # it had run out before
            self.store.expire(member)

    def restart(self, task: str | Task) -> Member:
        """Start a task again as a new incarnation, with a new address; kills it before if it still runs."""
        wanted = self._task(task)
        if wanted in self._members:
            self.kill(wanted)
        return self._join(wanted)

    # -- time

    def advance(self, seconds: float) -> None:
        """Let time pass for all: keep-alives, then leases that end, each at its moment; then deadlines."""
        self.store.advance(seconds)

    def await_waiting(self, task: str | Task, count: int = 1) -> None:
        """Block until `count` threads wait in calls of that member, so that the next `advance()` reaches them.

        Raises TimeoutError after 30 real seconds.
        """
        condition = self[task]._session.condition
        self.store.clock.await_waiters(count, condition=condition, timeout=PATIENCE)

    # -- acting

    def cluster(self) -> ClusterSpec:
        """Wait until every member has passed the gate of the newest epoch, and return its spec.

        Raises InvalidArgumentError when a killed member was not restarted, for then the gate may never open.
        """
        if self._killed:
            who = ", ".join(str(task) for task in sorted(self._killed))
            raise InvalidArgumentError(f"{who} was killed, so no new epoch can be sealed: restart() it first")
        newest = max((member.cluster(timeout=None) for member in self), key=lambda spec: spec.epoch)
        for member in self:
            while member.cluster(timeout=None).epoch < newest.epoch:
                next(member.changes(timeout=None))
        return newest

    def start(self, call: Callable[[Member], R], *tasks: str | Task) -> dict[str, Future[R]]:
        """Begin `call(member)` for each of the tasks (all by default) at once, on a thread each.

        >>> import psbarrier
        >>> with job(ps=1, worker=2) as j:
        ...     waits = j.start(lambda me: me.barrier("epoch", roles=("worker",)).wait(timeout=5), "worker/0")
        ...     j.await_waiting("worker/0")
        ...     j.advance(5)
        ...     try:
        ...         waits["worker/0"].result()
        ...     except psbarrier.BarrierTimeoutError as error:
        ...         print(sorted(error.missing))
        ['worker/1']
        """
        if self._threads is None:
            raise InvalidArgumentError("this job has not begun, or is closed: use it in a with block")
        members = [self[task] for task in tasks] if tasks else list(self)
        return {str(member.task): self._threads.submit(call, member) for member in members}

    def together(self, call: Callable[[Member], R], *tasks: str | Task) -> dict[str, R]:
        """Like `start`, and wait for the results; raises what one of them raised, and TimeoutError after 30 real seconds."""
        return {task: begun.result(PATIENCE) for task, begun in self.start(call, *tasks).items()}

    # -- leaving

    def close(self) -> None:
        """End all members, as `kill` does, and their threads. Idempotent."""
        for task in list(self._members):
            self._stop(task)
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        if self._owns_store:
            self.store.close()

    def _task(self, task: str | Task) -> Task:
        found = task if isinstance(task, Task) else Task.parse(task)
        self.replicas.require(found)
        return found

    def _join(self, task: Task) -> Member:
        client = self.store.client()
        try:
            member = join(
                client,
                self.name,
                task.role,
                task.index,
                replicas=self.replicas,
                address=f"{task.role}-{task.index}:{next(self._ports)}",
                run="test",
                ttl=self._ttl,
                policy=self._policy,
            )
        except BaseException:
            client.close()
            raise
        self._members[task], self._clients[task] = member, client
        self._killed.discard(task)
        return member

    def _stop(self, task: Task) -> None:
        """The client goes first: whoever is in the middle of a request, or waits for a cut network, ends with it."""
        self._clients.pop(task).close()
        self._members.pop(task).abandon()
