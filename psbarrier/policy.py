"""Policy: when a job is over, and how much it forgives. Part of the run's configuration, the same for all members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import Replicas, check_name

MIN_RETENTION = 60.0
MAX_SECONDS = 1e12
"""More than any job takes, and far less than what a float cannot hold."""


def _success(given: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    return (given,) if isinstance(given, str) else tuple(sorted(check_name("role", role) for role in given))


@frozen
class Policy:
    """What all members of a run agree on beside its replicas.

    `success`: the roles whose tasks must all have finished for the job to succeed. None means the chief where there
    is one, else all workers, else every task.
    `loss_grace`: seconds that a lost task may stay away before the job fails; a mapping sets it per role.
    `max_restarts`: how many crashes of one task are forgiven; the next one fails the job at once.
    `retention`: seconds that etcd keeps the run after its last member has gone; raised to max(60, 4 x ttl).
    `last_call`: seconds that a job with an elastic role, once its least is there, waits for more of them to start with.
    `settling`: seconds without a further change after which such a job goes on in a new epoch, when tasks of it have come
    or gone; while the changes do not end, `last_call` seconds after the first one.
    """

    success: tuple[str, ...] | None = field(default=None, converter=_success)
    loss_grace: float | Mapping[str, float] = 60.0
    max_restarts: int = 0
    retention: float = 3600.0
    last_call: float = 30.0
    settling: float = 3.0

    def __attrs_post_init__(self) -> None:
        graces = self.loss_grace.values() if isinstance(self.loss_grace, Mapping) else (self.loss_grace,)
        named = [(name, getattr(self, name)) for name in ("retention", "last_call", "settling")]
        for name, seconds in [("loss_grace", grace) for grace in graces] + named:
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
                raise InvalidArgumentError(f"the policy's {name} {seconds!r} is not a number of seconds from 0 to 1e12")
        if isinstance(self.max_restarts, bool) or not isinstance(self.max_restarts, int) or self.max_restarts < 0:
            raise InvalidArgumentError(f"the policy's max_restarts {self.max_restarts!r} is not a number from 0 on")

    def grace(self, role: str) -> float:
        """How many seconds a task of `role` may stay lost."""
        if isinstance(self.loss_grace, Mapping):
            return float(self.loss_grace.get(role, 60.0))
        return float(self.loss_grace)

    def deciding_roles(self, replicas: Replicas) -> tuple[str, ...]:
        """The roles whose finishing makes the job succeed; InvalidArgumentError when one is not in `replicas`."""
        if self.success is not None:
            for role in self.success:
                if role not in replicas:
                    raise InvalidArgumentError(
                        f"the policy's success role {role!r} is not among the replicas {replicas}"
                    )
            if not self.success:
                raise InvalidArgumentError("the policy's success names no role, so the job could never succeed")
            return self.success
        for role in ("chief", "worker"):
            if role in replicas:
                return (role,)
        return replicas.roles

    def as_dict(self) -> dict[str, Any]:
        """The form that is compared between members."""
        grace = dict(sorted(self.loss_grace.items())) if isinstance(self.loss_grace, Mapping) else self.loss_grace
        return {
            "success": list(self.success) if self.success is not None else None,
            "loss_grace": {k: float(v) for k, v in grace.items()} if isinstance(grace, dict) else float(grace),
            "max_restarts": self.max_restarts,
            "retention": float(self.retention),
            "last_call": float(self.last_call),
            "settling": float(self.settling),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Policy:
        """The reverse of `as_dict()`."""
        names = ("success", "loss_grace", "max_restarts", "retention", "last_call", "settling")
        return cls(**{name: given[name] for name in names})
