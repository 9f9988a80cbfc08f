"""psbarrier: who am I, who are the others, may I start, is anyone gone, are we done? Answered by etcd alone."""

from psbarrier.barrier import Barrier
from psbarrier.connect import connect
from psbarrier.errors import (
    AlreadyAttachedError,
    AlreadyFinishedError,
    BarrierBrokenError,
    BarrierMismatchError,
    BarrierOutcomeUnknownError,
    BarrierTimeoutError,
    ClosedError,
    ConcurrentWaitError,
    EtcdNotFoundError,
    ForkError,
    GateTimeoutError,
    InvalidArgumentError,
    JobFailedError,
    JobMismatchError,
    JobOverError,
    JobTimeoutError,
    LeaseNotFoundError,
    MalformedValueError,
    PsBarrierError,
    RunGoneError,
    ShareTimeoutError,
    SlotLostError,
    SlotTakenError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from psbarrier.join import join
from psbarrier.member import Member
from psbarrier.policy import Policy
from psbarrier.spec import ClusterSpec, MemberSpec, Replicas, Task
from psbarrier.state import JobState, MemberState
from psbarrier.store.tls import TLS

__all__ = [
    "TLS",
    "AlreadyAttachedError",
    "AlreadyFinishedError",
    "Barrier",
    "BarrierBrokenError",
    "BarrierMismatchError",
    "BarrierOutcomeUnknownError",
    "BarrierTimeoutError",
    "ClosedError",
    "ClusterSpec",
    "ConcurrentWaitError",
    "EtcdNotFoundError",
    "ForkError",
    "GateTimeoutError",
    "InvalidArgumentError",
    "JobFailedError",
    "JobMismatchError",
    "JobOverError",
    "JobState",
    "JobTimeoutError",
    "LeaseNotFoundError",
    "MalformedValueError",
    "Member",
    "MemberSpec",
    "MemberState",
    "Policy",
    "PsBarrierError",
    "Replicas",
    "RunGoneError",
    "ShareTimeoutError",
    "SlotLostError",
    "SlotTakenError",
    "StoreError",
    "StoreRefusedError",
    "StoreUnavailableError",
    "Task",
    "connect",
    "join",
]
