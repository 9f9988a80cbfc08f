"""Exit codes: what `psbarrier` ends with, and what they mean.

0          done: the command succeeded, or this task or its job had already
2          usage: an option that can never work
110        the job failed, by another task or by `psbarrier abort`
111        a deadline passed
112        etcd cannot be reached
113        etcd refuses: rights, login, space
114        this process no longer holds its task, or another one does
128 + N    ended by signal N
else       what the command itself ended with
"""

from __future__ import annotations

from psbarrier.errors import (
    AlreadyFinishedError,
    InvalidArgumentError,
    JobFailedError,
    JobOverError,
    PsBarrierError,
    SlotLostError,
    SlotTakenError,
    StoreRefusedError,
    StoreUnavailableError,
)

USAGE = 2
JOB_FAILED = 110
UNAVAILABLE = 112
REFUSED = 113
RESERVED = range(110, 120)

# The first that fits decides: several of ours are also timeouts.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (InvalidArgumentError, USAGE),
    (JobFailedError, JOB_FAILED),
    (JobOverError, 0),
    (AlreadyFinishedError, 0),
    (SlotTakenError, 114),
    (SlotLostError, 114),
    (StoreUnavailableError, UNAVAILABLE),
    (StoreRefusedError, REFUSED),
    (TimeoutError, 111),
)


def code_of(error: PsBarrierError) -> int:
    """What `psbarrier` ends with because of `error`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def passed_on(code: int) -> int:
    """A child's own exit code, except that what means something of ours becomes 1."""
    return 1 if code in RESERVED else code
