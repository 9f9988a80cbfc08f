"""How a job stands, and how a member's hold on its task stands."""

from __future__ import annotations

import enum
from typing import Literal

from attrs import frozen

from psbarrier.errors import JobFailedError, JobOverError


@frozen
class JobState:
    """`phase` is "running", "succeeded" or "failed"; once it is not "running" it never changes again.

    A failed job says `by` whom (a task such as "worker/3", or who aborted it), the `reason`, and an `exit_code`.
    `since` is seconds since 1970, by the clock of the process that decided.
    """

    phase: Literal["running", "succeeded", "failed"] = "running"
    by: str = ""
    reason: str = ""
    exit_code: int = 0
    since: float = 0.0

    @property
    def over(self) -> bool:
        """Whether it is decided how the job ended."""
        return self.phase != "running"

    def error(self, job: str) -> JobOverError:
        """The error for whoever still wanted something from the job."""
        if self.phase == "failed":
            return JobFailedError(
                f"job {job!r} has failed, by {self.by}: {self.reason}",
                by=self.by,
                reason=self.reason,
                exit_code=self.exit_code,
            )
        return JobOverError(f"job {job!r} has already succeeded, so this can never happen in it any more")

    def __str__(self) -> str:
        return f"failed, by {self.by}: {self.reason}" if self.phase == "failed" else self.phase


class MemberState(enum.Enum):
    """A member's hold on its task, as far as its own process can know.

    CONNECTED: etcd confirmed the lease within the last TTL. SUSPENDED: it did not, so others may already see the task
    as lost; an etcd that comes back may still confirm it. LOST: etcd said that the task is no longer ours; final.
    """

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    LOST = "lost"
    CLOSED = "closed"
