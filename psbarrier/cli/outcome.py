"""Outcome: how a launch ended; and the events that lead there."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from psbarrier.cli import exits
from psbarrier.errors import PsBarrierError
from psbarrier.spec import ClusterSpec
from psbarrier.state import JobState


@frozen
class Outcome:
    """The exit code, which kind of end it was, and, where people should know, a sentence.

    "finished": the task is done. "crashed": it may be started again if the policy forgives it. "left": it was told to
    end. "over": the job's end was its end. "error": it could not be held or started.
    """

    code: int
    kind: Literal["finished", "crashed", "left", "over", "error"]
    said: str = ""

    @classmethod
    def of(cls, error: PsBarrierError) -> Outcome:
        """The end that an error means."""
        code = exits.code_of(error)
        return cls(code, "over" if code in (0, exits.JOB_FAILED) else "error", str(error))


@frozen
class Epoch:
    """A spec was sealed that names this incarnation."""

    spec: ClusterSpec


@frozen
class Mustered:
    """The earlier commands of all tasks have ended, and those of this epoch may start."""

    epoch: int


@frozen
class Over:
    """The job is over."""

    state: JobState


@frozen
class Trouble:
    """The task cannot be started, or is not ours any more."""

    error: PsBarrierError


@frozen
class Stop:
    """Somebody wants this task to end."""

    number: int


@frozen
class Tied:
    """A process of the command uses the task itself."""


@frozen
class Exited:
    """The command has ended, with this status: its exit code, or -N for signal N."""

    status: int


Event: TypeAlias = Epoch | Mustered | Over | Trouble | Stop | Tied | Exited
