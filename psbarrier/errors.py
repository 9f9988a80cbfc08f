"""Every error psbarrier raises, as one tree.

PsBarrierError
├── InvalidArgumentError (ValueError)           a name, index, address, TTL or setting that can never work
│   └── JobMismatchError                        two processes describe the same run differently
│   └── BarrierMismatchError                    two processes give one barrier name different parties
├── StoreError                                  what etcd did, or failed to do
│   ├── StoreUnavailableError (ConnectionError) no endpoint answered in time
│   ├── StoreRefusedError (PermissionError)     etcd answered, and refuses: rights, login, size
│   │   └── StoreFullError                      etcd has no space left for any write
│   ├── LeaseNotFoundError                      a lease named in a request does not exist (any more)
│   └── MalformedValueError (ValueError)        a value read from etcd is not what this version writes
├── EtcdNotFoundError (FileNotFoundError)       no etcd program to start
├── SlotTakenError (TimeoutError)               another live process holds the task; named in `holder`
├── AlreadyFinishedError                        the task has already finished in this run
├── AlreadyAttachedError                        another process uses the session of this guardian
├── GuardianError (ChildProcessError)           the guardian of this process could not be started
├── SlotLostError (ConnectionError)             this process no longer holds its task
│   └── RunGoneError                            the whole run has vanished from etcd
├── JobOverError                                the job has already ended well
│   └── JobFailedError                          the job has failed: `by`, `reason`, `exit_code`
├── GateTimeoutError (TimeoutError)             the cluster was not complete in time: `missing`
├── JobTimeoutError (TimeoutError)              the job was not over in time: `missing`
├── ShareTimeoutError (TimeoutError)            nobody shared that key in time
├── BarrierBrokenError (BrokenBarrierError)     a barrier's generation is broken: `by`, `reason`, `missing`
│   └── BarrierTimeoutError (TimeoutError)      … by this caller's own deadline
├── BarrierOutcomeUnknownError (TimeoutError)   etcd was out of reach at the deadline: released or not, nobody knows
├── ConcurrentWaitError (RuntimeError)          two threads wait on one Barrier object at once
├── ClusterError                                Kubernetes refuses, or cannot be reached
├── ForkError (RuntimeError)                    a forked child uses what belongs to its parent
└── ClosedError (RuntimeError)                  the member or store was closed by its own process

An error's text is one sentence that says what happened, to whom, and what to do. What it is made of stands in its
attributes, so that nobody has to parse the text. All of them survive pickling.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any


class PsBarrierError(Exception):
    """The root: `except PsBarrierError` catches everything this library raises on purpose."""

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.__dict__.update(data)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def _rebuild(kind: type[PsBarrierError], message: str, data: dict[str, Any]) -> PsBarrierError:
    return kind(message, **data)


class InvalidArgumentError(PsBarrierError, ValueError):
    """An argument or setting that can never work; nothing was sent to etcd."""


class JobMismatchError(InvalidArgumentError):
    """This process and the run in etcd disagree about replicas or policy: `ours` and `theirs`."""

    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]


class BarrierMismatchError(InvalidArgumentError):
    """One barrier name was given two different sets of parties: `ours` and `theirs`, sorted role names."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]


class StoreError(PsBarrierError):
    """What etcd did, or failed to do."""


class StoreUnavailableError(StoreError, ConnectionError):
    """No endpoint answered in time.

    `reasons` maps each endpoint to the last thing that went wrong there. `applied` is False when the request
    certainly changed nothing, and None when nobody knows.
    """

    reasons: Mapping[str, str] = {}
    applied: bool | None = None

    @classmethod
    def after(
        cls, seconds: float, what: str, reasons: Mapping[str, str], *, applied: bool | None
    ) -> StoreUnavailableError:
        """The error that says `what` etcd did for so many seconds, and what went wrong at each endpoint."""
        places = ", ".join(f"{endpoint} ({reason})" for endpoint, reason in reasons.items())
        return cls(
            f"etcd {what} within {seconds:.1f} s: {places}; check that it runs and can be reached from here.",
            reasons=dict(reasons),
            applied=applied,
        )


class StoreRefusedError(StoreError, PermissionError):
    """etcd answered and refuses: missing rights, failed login, request too large; `reasons` as above."""


class StoreFullError(StoreRefusedError):
    """etcd has no space left, and refuses every write, until somebody makes room and disarms its alarm.

    Leases live on meanwhile, and so do members.
    """


class LeaseNotFoundError(StoreError):
    """A request named a lease that does not exist; etcd does not say which one."""


class MalformedValueError(StoreError, ValueError):
    """The value under `key` is not one that this version of psbarrier writes."""

    key: str


class EtcdNotFoundError(PsBarrierError, FileNotFoundError):
    """There is no etcd program here to start."""


class SlotTakenError(PsBarrierError, TimeoutError):
    """Another live process holds the task, and still did at the join deadline: `task`, `holder`."""

    task: str
    holder: str


class AlreadyFinishedError(PsBarrierError):
    """The task has finished in this run; it is not started a second time."""

    task: str


class AlreadyAttachedError(PsBarrierError):
    """Another process already uses the session that the guardian gave to its child."""

    task: str


class GuardianError(PsBarrierError, ChildProcessError):
    """The process that was to hold the task for this one could not be started; nothing is left in etcd."""

    task: str = ""


class SlotLostError(PsBarrierError, ConnectionError):
    """This process no longer holds its task: `task`, `reason`. It must not act for the task any more."""

    task: str
    reason: str


class RunGoneError(SlotLostError):
    """The run itself is gone from etcd: its retention ran out, or etcd came back empty."""


class JobOverError(PsBarrierError):
    """The job has ended well, so what was asked for will never happen."""


class JobFailedError(JobOverError):
    """The job has failed: `by` (a task, or who aborted), `reason`, `exit_code`."""

    by: str
    reason: str
    exit_code: int


class GateTimeoutError(PsBarrierError, TimeoutError):
    """The cluster was not complete at the deadline: `missing` maps each absent task to why."""

    missing: Mapping[str, str]


class JobTimeoutError(PsBarrierError, TimeoutError):
    """The job was not over at the deadline: `missing` maps each unfinished task to what is known of it."""

    missing: Mapping[str, str]


class ShareTimeoutError(PsBarrierError, TimeoutError):
    """Nobody had shared `key` by the deadline."""

    key: str


class BarrierBrokenError(PsBarrierError, threading.BrokenBarrierError):
    """The generation is broken for every party.

    `by` is the task that broke it, `reason` is "timeout", "abort", "interrupt", "lost" or "finished", and `missing`
    maps each party that had not arrived to what is known of it.
    """

    barrier: str
    generation: int
    by: str
    reason: str
    missing: Mapping[str, str]


class BarrierTimeoutError(BarrierBrokenError, TimeoutError):
    """This caller's own deadline broke the generation."""


class BarrierOutcomeUnknownError(PsBarrierError, TimeoutError):
    """etcd was out of reach at the deadline, so this caller cannot know whether the generation was released."""

    barrier: str
    generation: int


class ConcurrentWaitError(PsBarrierError, RuntimeError):
    """Two threads of one process wait on the same Barrier at once."""


class ClusterError(PsBarrierError):
    """Kubernetes refuses what was asked of it, or cannot be reached: `status` is the HTTP status, 0 without an answer.

    When rights are missing, `verb` and `resource` say which.
    """

    status: int = 0
    verb: str = ""
    resource: str = ""


class ForkError(PsBarrierError, RuntimeError):
    """A forked child uses a member, barrier or store of its parent, process `pid`, or gRPC, which that had used."""

    pid: int


class ClosedError(PsBarrierError, RuntimeError):
    """The member or the store was closed by its own process."""
