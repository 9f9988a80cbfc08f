"""What each error and each end of a child means as an exit code."""

from __future__ import annotations

import pytest

from psbarrier import errors
from psbarrier.cli import exits
from psbarrier.errors import PsBarrierError
from psbarrier.exit_status import describe, shell_code

CODES: list[tuple[type[PsBarrierError], int]] = [
    (errors.InvalidArgumentError, 2),
    (errors.JobMismatchError, 2),
    (errors.JobFailedError, 110),
    (errors.JobOverError, 0),
    (errors.AlreadyFinishedError, 0),
    (errors.GateTimeoutError, 111),
    (errors.JobTimeoutError, 111),
    (errors.BarrierOutcomeUnknownError, 111),
    (errors.StoreUnavailableError, 112),
    (errors.StoreRefusedError, 113),
    (errors.SlotLostError, 114),
    (errors.RunGoneError, 114),
    (errors.SlotTakenError, 114),
    (errors.MalformedValueError, 1),
]


@pytest.mark.parametrize(("kind", "code"), CODES)
def test_each_error_has_its_code(kind: type[PsBarrierError], code: int) -> None:
    """A script can tell a failed job from a lost task, and both from a missing etcd."""
    assert exits.code_of(kind("said")) == code


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (0, 0, "exited with code 0"),
        (3, 3, "exited with code 3"),
        (-9, 137, "was killed by SIGKILL"),
        (-64, 192, "was killed by SIGRTMAX"),
        (-50, 178, "was killed by signal 50"),
    ],
)
def test_a_childs_end_reads_as_in_a_shell(status: int, code: int, words: str) -> None:
    """128 + N for a signal, and its name for people."""
    assert (shell_code(status), describe(status)) == (code, words)


@pytest.mark.parametrize(("code", "passed"), [(109, 109), (110, 1), (114, 1), (119, 1), (120, 120)])
def test_a_command_cannot_speak_for_psbarrier(code: int, passed: int) -> None:
    """Its codes from 110 to 119 become 1."""
    assert exits.passed_on(code) == passed
