"""What join() is asked for: its arguments, completed by the environment, and checked before anything is sent."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from attrs import frozen

from psbarrier.address import default_address
from psbarrier.arguments import choice, seconds
from psbarrier.errors import InvalidArgumentError
from psbarrier.flows.joining import Wanted
from psbarrier.policy import Policy
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import Config, Registration
from psbarrier.protocol.standing import Standing
from psbarrier.settings import (
    check_meta,
    check_policy,
    json_object,
    policy_from_environment,
    required,
    setting,
    task_of_slot,
)
from psbarrier.settings import replicas as replicas_setting
from psbarrier.spec import Replicas, Task, check_address, check_name
from psbarrier.store.base import Store

TTL = 15
LEAST_TTL = 2
JOIN_TIMEOUT = 60.0


@frozen
class Asked:
    """The arguments of join() as they were given, None for what was not."""

    job: str | None
    role: str | None
    index: int | None
    replicas: Replicas | Mapping[str, int | Sequence[int]] | str | None
    address: str | None
    run: str | None
    ttl: int | None
    takeover: Literal["wait", "force"] | None
    meta: Mapping[str, Any] | None
    policy: Policy | None

    def wanted(self, store: Store) -> Wanted:
        """What to ask etcd for; InvalidArgumentError for what can never work."""
        counts = replicas_setting(self.replicas)
        policy = policy_from_environment(replicas=counts) if self.policy is None else check_policy(self.policy, counts)
        job = required("JOB", self.job, str, check=partial(check_name, "job"))
        role, index = self._place(counts)
        run = setting("RUN", self.run, str, check=partial(check_name, "run"))
        how = setting("TAKEOVER", self.takeover, str, check=lambda how: choice("takeover", how, "wait", "force"))
        registration = self._registration(store)
        takeover: Literal["wait", "force"] = "force" if how == "force" else "wait"
        keys, config = JobKeys(store.prefix, job), Config(counts, policy)
        return Wanted(keys, run, role, index, config, registration, registration.meta, takeover)

    def _place(self, counts: Replicas) -> tuple[str, int | None]:
        """The role, and the index if one is given."""
        task = task_of_slot(None, self.role, self.index, counts)
        if task is not None:
            return task.role, task.index
        role = required("ROLE", self.role, str, check=lambda role: counts.require(Task(role, 0)).role)
        return role, setting("INDEX", self.index, int, check=lambda index: counts.require(Task(role, index)).index)

    def _registration(self, store: Store) -> Registration:
        ttl = setting("TTL", self.ttl, int, check=check_ttl) or TTL
        meta = setting("META", self.meta, json_object, check=check_meta) or {}
        address = setting("ADDRESS", self.address, str, check=check_address)
        return Registration(
            address=address or default_address(store.endpoints),
            incarnation=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            ttl=ttl,
            meta=dict(meta),
        )

    def require_same(self, held: Standing) -> None:
        """Raises InvalidArgumentError if an argument contradicts the task that a guardian holds for this process."""
        task, config = held.task, held.config
        pairs: dict[str, tuple[object, object]] = {
            "job": (self.job, held.job),
            "role": (self.role, task.role),
            "index": (self.index, task.index),
            "address": (self.address, held.address),
            "run": (self.run, held.run),
            "ttl": (self.ttl, held.ttl),
        }
        if self.replicas is not None:
            pairs["replicas"] = (str(Replicas.of(self.replicas)), str(config.replicas))
        if self.policy is not None:
            pairs["policy"] = (check_policy(self.policy, None).as_dict(), config.policy.as_dict())
        for name, (asked, known) in pairs.items():
            if asked is not None and asked != known:
                raise InvalidArgumentError(
                    f"psbarrier run holds {task} of job {held.job!r} for this process with {name}={known!r}, and join() "
                    f"asks for {name}={asked!r}: leave the argument out, or give the same one to both"
                )


def join_timeout(timeout: float | None) -> float:
    """The join deadline in seconds."""
    found = setting("JOIN_TIMEOUT", timeout, float, check=partial(seconds, "timeout"))
    return JOIN_TIMEOUT if found is None else found


def guarded(guardian: bool | None) -> bool:
    """Whether a guardian is wanted."""
    if guardian is not None and not isinstance(guardian, bool):
        raise InvalidArgumentError(f"guardian={guardian!r} is neither True nor False")
    return bool(setting("GUARDIAN", guardian, lambda text: choice("guardian", text, "0", "1") == "1"))


def check_ttl(ttl: int) -> int:
    """`ttl` itself if etcd can grant it."""
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not LEAST_TTL <= ttl <= 86_400:
        raise InvalidArgumentError(f"ttl={ttl!r} is not a whole number of seconds from {LEAST_TTL} to 86400")
    return ttl
