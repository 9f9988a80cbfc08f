"""join(): register this process as a task of a job."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from psbarrier.address import default_address
from psbarrier.arguments import choice, seconds
from psbarrier.connect import open_store
from psbarrier.errors import InvalidArgumentError
from psbarrier.flows.attaching import attaching
from psbarrier.flows.joining import Joined, Wanted, check_slot, joining
from psbarrier.flows.leading import leading
from psbarrier.member import Member
from psbarrier.policy import Policy
from psbarrier.protocol.handover import VARIABLE, Handover
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import Config, Registration
from psbarrier.session import Session
from psbarrier.settings import json_object, policy_from_environment, required, setting
from psbarrier.settings import replicas as replicas_setting
from psbarrier.spec import Replicas, check_address, check_name
from psbarrier.store.base import Store

TTL = 15
LEAST_TTL = 2
JOIN_TIMEOUT = 60.0


def join(
    store: Store | str | Sequence[str] | Any | None = None,
    job: str | None = None,
    role: str | None = None,
    index: int | None = None,
    *,
    replicas: Replicas | Mapping[str, int] | str | None = None,
    address: str | None = None,
    run: str | None = None,
    ttl: int | None = None,
    takeover: Literal["wait", "force"] | None = None,
    meta: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    strict: bool = False,
    timeout: float | None = None,
) -> Member:
    """Register this process as task `role`/`index` of `job`, and hold the task until the Member is closed.

    `store` is what `connect()` returned, or what it takes as endpoints (then the Member closes it). `index` None takes
    the lowest free slot of the role. `replicas` says how many tasks each role has; it and `policy` must be the same in
    all processes of the run. `address` is the `host:port` that the others are told: by default the host on the route to
    etcd and a free port. `run` None means the job's current run, or a new one when that is over or abandoned; a run that
    is named is never started a second time. `ttl` is the seconds (2 at least) after which etcd gives up a task whose
    process is silent. When another process holds the task, `takeover="wait"` waits for its lease to go, and "force"
    revokes it. `meta` is a small JSON object that stands beside the address in the cluster spec. With `strict`, a TTL
    without a confirmed keep-alive makes the member LOST at once, and not only SUSPENDED. `timeout` is in seconds.

    What is not given comes from the PSBARRIER_… variables. In a process that `psbarrier run` has started, the task that
    it holds is attached to, once; arguments that contradict it are an InvalidArgumentError.

    Raises InvalidArgumentError, JobMismatchError, SlotTakenError (named: who holds it), AlreadyFinishedError,
    JobFailedError or JobOverError (the run is over), StoreUnavailableError, StoreRefusedError. Nothing is left in etcd
    then.
    """
    limit = seconds("timeout", required_timeout(timeout))
    handed = os.environ.get(VARIABLE)
    if handed:
        given = {"job": job, "role": role, "index": index, "address": address, "run": run, "ttl": ttl}
        return _attach(store, Handover.unpack(handed), given, replicas, policy, strict, limit)
    config = Config(replicas_setting(replicas), policy if policy is not None else policy_from_environment())
    name, wanted_role = check_name("job", required("JOB", job, str)), required("ROLE", role, str)
    wanted_index, wanted_run = setting("INDEX", index, int), setting("RUN", run, str)
    check_slot(config, wanted_role, wanted_index)
    if wanted_run is not None:
        check_name("run", wanted_run)
    lease_ttl = check_ttl(setting("TTL", ttl, int, TTL))
    how = setting("TAKEOVER", takeover, str, "wait") or "wait"
    force: Literal["wait", "force"] = "force" if choice("takeover", how, "wait", "force") == "force" else "wait"
    where = setting("ADDRESS", address, str)
    if where is not None:
        check_address(where)
    said = setting("META", meta, json_object, {}) or {}
    opened, owned = _store(store)
    session = Session(opened, strict=strict)
    try:
        registration = Registration(
            address=where or default_address(opened.endpoints),
            incarnation=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            ttl=lease_ttl,
            meta=dict(said),
        )
        keys = JobKeys(opened.prefix, name)
        want = Wanted(keys, wanted_run, wanted_role, wanted_index, config, registration, said, force)
        clock = session.clock
        joined = session.run(joining(want, clock.now, clock.wall, clock.now() + limit))
        return _enter(session, joined, owns_store=owned)
    except BaseException:
        session.close()
        if owned:
            opened.close()
        raise


def _enter(session: Session, joined: Joined, *, owns_store: bool) -> Member:
    session.end_changes()
    session.standing = joined.standing
    clock = session.clock
    session.start(leading(joined.standing, joined.view, clock.now, clock.wall, session.certain))
    return Member(session, joined, owns_store=owns_store)


def _attach(
    store: Store | str | Sequence[str] | Any | None,
    handover: Handover,
    given: Mapping[str, Any],
    replicas: Replicas | Mapping[str, int] | str | None,
    policy: Policy | None,
    strict: bool,
    limit: float,
) -> Member:
    me = handover.standing
    held = {"job": me.job, "role": me.task.role, "index": me.task.index, "address": me.address, "run": me.run, "ttl": me.ttl}
    wanted = dict(given)
    if replicas is not None:
        held["replicas"], wanted["replicas"] = str(me.config.replicas), str(Replicas.of(replicas))
    if policy is not None:
        held["policy"], wanted["policy"] = me.config.policy.as_dict(), policy.as_dict()
    for name, value in wanted.items():
        if value is not None and value != held[name]:
            raise InvalidArgumentError(
                f"psbarrier run holds {me.task} of job {me.job!r} for this process with {name}={held[name]!r}, and join() "
                f"asks for {name}={value!r}: leave the argument out, or give the same one to both"
            )
    opened, owned = _store(store)
    session = Session(opened, strict=strict)
    try:
        now = session.clock.now
        joined = session.run(attaching(handover, os.getpid(), now, now() + limit))
        session.attach(joined.standing)
        return Member(session, joined, owns_store=owned, attached=True)
    except BaseException:
        session.close(revoke=False)
        if owned:
            opened.close()
        raise


def _store(given: Any) -> tuple[Store, bool]:
    """The store to use, and whether it is ours to close."""
    if all(callable(getattr(given, verb, None)) for verb in ("txn", "read", "grant", "revoke", "keep", "watch")):
        return given, False
    return open_store(given), True


def required_timeout(timeout: float | None) -> float:
    """The join deadline in seconds."""
    return setting("JOIN_TIMEOUT", timeout, float, JOIN_TIMEOUT) or 0.0


def check_ttl(ttl: int | None) -> int:
    """`ttl` itself if etcd can grant it."""
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not LEAST_TTL <= ttl <= 86_400:
        raise InvalidArgumentError(f"ttl={ttl!r} is not a whole number of seconds from {LEAST_TTL} to 86400")
    return ttl
