"""Ripening: when the next epoch of a job with an elastic role may be sealed. Pure.

Its members come and go, each change costs the others a restart of their step, and changes seldom come alone. So once the
least is there the job waits for a last call before it starts, and later until the changes have settled.
"""

from __future__ import annotations

import math

from psbarrier.flows.assessment import Assessment
from psbarrier.policy import Policy


class Ripening:
    """Remembers since when an epoch is due, and since when nothing has changed about it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seen: tuple[object, ...] = ()
        self._began: float | None = None
        self._changed = -math.inf

    def at(self, view: Assessment, now: float, *, first: bool) -> float:
        """When the epoch that `view` proposes may be sealed, if nothing changes until then; infinity if it proposes none.

        At once when nobody else can come, as always in a job whose roles are all fixed, or when nobody is to be waited
        for, since each member that went has come back.
        """
        if view.members is None:
            self._seen, self._began = (), None
            return math.inf
        incarnations = tuple(member.incarnation for member in view.members)
        if self._began is None:
            self._began = now
        if incarnations != self._seen:
            self._seen, self._changed = incarnations, now
        if view.full:
            return now
        last_call = self._began + self._policy.last_call
        return last_call if first else min(self._changed + self._policy.settling, last_call)
