"""join(): register this process as a task of a job."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from psbarrier.asking import Asked, guarded, join_timeout
from psbarrier.connect import open_store
from psbarrier.errors import InvalidArgumentError
from psbarrier.flows.attaching import attaching, handing_over
from psbarrier.flows.effects import Flow, Progress
from psbarrier.flows.joining import Joined, joining
from psbarrier.flows.leading import leading
from psbarrier.guardian import Guardian
from psbarrier.member import Member
from psbarrier.policy import Policy
from psbarrier.protocol.handover import VARIABLE, Handover
from psbarrier.session import Session
from psbarrier.spec import Replicas
from psbarrier.store.access import Access
from psbarrier.store.base import Store
from psbarrier.tether import Tether

logger = logging.getLogger("psbarrier")


def join(
    store: Store | str | Sequence[str] | Any | None = None,
    job: str | None = None,
    role: str | None = None,
    index: int | None = None,
    *,
    replicas: Replicas | Mapping[str, int | Sequence[int]] | str | None = None,
    address: str | None = None,
    run: str | None = None,
    ttl: int | None = None,
    takeover: Literal["wait", "force"] | None = None,
    meta: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    guardian: bool | None = None,
    strict: bool = False,
    timeout: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Member:
    """Register this process as task `role`/`index` of `job`, and hold the task until the Member is closed.

    `store` is what `connect()` returned, or what it takes as endpoints (then the Member closes it). `index` None takes
    the lowest free slot of the role. `replicas` says how many tasks each role has; it and `policy` must be the same in
    all processes of the run. `address` is the `host:port` that the others are told: by default the host on the route to
    etcd and a free port. `run` None means the job's current run, or a new one when that is over or abandoned; a run that
    is named is never started a second time. `ttl` is the seconds (2 at least) after which etcd gives up a task whose
    process is silent. When another process holds the task, `takeover="wait"` waits for its lease to go, and "force"
    revokes it. `meta` is a small JSON object that stands beside the address in the cluster spec. With `guardian`, a
    process of its own holds the lease for this one: no step that keeps the GIL loses it, and the others learn of this
    process's end at once. With `strict`, a TTL without a confirmed keep-alive makes the member LOST at once, and not only
    SUSPENDED. `timeout` is in seconds. `on_progress` is called, in place of a log line, from whatever waits for more
    than 5 s; it must not block.

    What is not given comes from the PSBARRIER_… variables. In a process that `psbarrier run` has started, the task that
    it holds is attached to, once; that is a guardian already, and arguments that contradict it are an
    InvalidArgumentError.

    Raises InvalidArgumentError, JobMismatchError, SlotTakenError (named: who holds it), AlreadyFinishedError,
    JobFailedError or JobOverError (the run is over), GuardianError, StoreUnavailableError, StoreRefusedError,
    MalformedValueError (a key that another program has spoilt); nothing is left in etcd then. ForkError in a forked child.
    """
    asked = Asked(job, role, index, replicas, address, run, ttl, takeover, meta, policy)
    handed = os.environ.get(VARIABLE, "")
    with _opened(store, strict, on_progress, revoke=not handed) as (session, owned):
        until = session.clock.now() + join_timeout(timeout)
        if handed:
            joined, tether = _attach(session, asked, Handover.unpack(handed), until)
        else:
            access = _access(session.store) if guarded(guardian) else None
            joined, tether = _register(session, asked, access, until)
        return Member(session, joined, owns_store=owned, attached=bool(handed), tether=tether)


@contextlib.contextmanager
def _opened(
    store: Any, strict: bool, on_progress: Callable[[Progress], None] | None, *, revoke: bool
) -> Iterator[tuple[Session, bool]]:
    """A session on the store, and whether the store is ours to close; closes both if joining fails."""
    owned = not all(
        callable(getattr(store, verb, None)) for verb in ("txn", "read", "grant", "revoke", "keep", "watch")
    )
    opened: Store = open_store(store) if owned else store
    session = Session(opened, strict=strict, on_progress=on_progress)
    try:
        yield session, owned
    except BaseException:
        session.close(revoke=revoke)
        if owned:
            opened.close()
        raise


def _access(store: Store) -> Access:
    """What leads a guardian to the same etcd."""
    access: Access | None = getattr(store, "access", None)
    if access is None:
        raise InvalidArgumentError(f"guardian=True needs an etcd that another process can reach, and {store!r} is none")
    return access


def _register(session: Session, asked: Asked, access: Access | None, until: float) -> tuple[Joined, Tether | None]:
    clock = session.clock
    joined = session.run(joining(asked.wanted(session.store), clock.now, clock.wall, until))
    session.enter(joined.standing, until, None if access else _leading(session, joined))
    if access is None:
        return joined, None
    handover = session.run(handing_over(joined.standing, session.store.prefix, clock.now, until))
    guardian = Guardian(handover, access, max(until - clock.now(), 1.0))
    return joined, guardian.tether(partial(_alone, session, joined))


def _attach(session: Session, asked: Asked, handover: Handover, until: float) -> tuple[Joined, Tether | None]:
    """The task that a guardian holds for this process."""
    asked.require_same(handover.standing)
    joined = session.run(attaching(handover, os.getpid(), session.clock.now, until))
    session.attach(joined.standing, until)
    if not handover.tether:
        return joined, None
    alone = partial(_alone, session, joined)
    try:
        return joined, Tether.tie(handover.tether, alone)
    except OSError:
        alone()
        return joined, None


def _leading(session: Session, joined: Joined) -> Flow[None]:
    """To lead whenever nobody else does."""
    return leading(joined.standing, joined.view, session.clock.now, session.clock.wall, session.certain)


def _alone(session: Session, joined: Joined) -> None:
    """The guardian is dead. The lease goes on, for this process keeps it too; what the guardian led, it leads now."""
    if session.error is None:
        logger.warning(
            "the guardian of %s is dead: this process goes on, but its own end will be known only after its TTL of %d s",
            joined.standing.task,
            joined.standing.ttl,
        )
        session.start(_leading(session, joined))
