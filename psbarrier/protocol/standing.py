"""Standing: what a member may rely on once it has joined, and how it finds out that it no longer may."""

from __future__ import annotations

from attrs import field, frozen

from psbarrier.errors import MalformedValueError, RunGoneError, SlotLostError
from psbarrier.protocol.keys import RunKeys
from psbarrier.protocol.records import Config, Registration
from psbarrier.spec import Task
from psbarrier.store.base import KV, Compare, Range


@frozen
class Standing:
    """One incarnation's hold on a task of a run. `token`, the create revision of its registration, is the fencing
    token: it grows with every incarnation of any task of the run.
    """

    keys: RunKeys
    job: str
    run: str
    task: Task
    incarnation: str
    address: str
    ttl: int
    lease: int
    token: int
    config: Config
    config_create: int
    run_lease: int
    restarts: int = 0
    key: str = field(init=False, eq=False, repr=False)
    guard: tuple[Compare, Compare] = field(init=False, eq=False, repr=False)
    """What every transaction of this member compares: its registration is its own, and the run is the same."""
    witnesses: tuple[Range, Range] = field(init=False, eq=False, repr=False)
    """What a refused transaction reads, for `lost()` to say whether the guard was why."""

    @key.default
    def _own_key(self) -> str:
        return self.keys.member(self.task)

    @guard.default
    def _compares(self) -> tuple[Compare, Compare]:
        return (
            Compare(self.key, "create", "==", self.token),
            Compare(self.keys.config, "create", "==", self.config_create),
        )

    @witnesses.default
    def _reads(self) -> tuple[Range, Range]:
        return Range(self.key), Range(self.keys.config)

    def lost(self, member: KV | None, config: KV | None) -> SlotLostError | None:
        """What the two witnesses say: None, or why this process must stop acting for its task."""
        if config is None or config.create != self.config_create:
            return RunGoneError(
                f"run {self.run!r} of job {self.job!r} is gone from etcd, and {self.task} with it: its retention ran out "
                "or etcd came back without its data; start the job again",
                task=str(self.task),
                reason="the run is gone",
            )
        if member is not None and member.create == self.token:
            return None
        if member is None:
            reason = "its lease ran out, was revoked, or its end was reported"
        else:
            reason = f"it is held by {_holder(member)}"
        return SlotLostError(
            f"this process no longer holds {self.task} of job {self.job!r}: {reason}; it must not act for it any more, "
            "so let it end, and start the task again if it is still wanted",
            task=str(self.task),
            reason=reason,
        )


def _holder(member: KV) -> str:
    """Who stands there now; that we do not is certain, whatever it is."""
    try:
        return Registration.unpack(member.key, member.value).holder
    except MalformedValueError as error:
        return f"nobody who can be read ({error})"
