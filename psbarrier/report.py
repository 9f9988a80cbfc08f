"""What is said of a wait that takes long, where nobody asked to be told otherwise."""

from __future__ import annotations

import logging

from psbarrier.flows.effects import Progress

logger = logging.getLogger("psbarrier")

WARN_AFTER = 30.0
"""Seconds; a warning is visible without any set-up of logging."""


def log_progress(progress: Progress) -> None:
    """One line for each report: INFO at first, WARNING (which is visible without any set-up) from 30 s on.

    A wait that is meant to be long, such as that of a parameter server for the end of its job, stays at INFO.
    """
    late = progress.waited >= WARN_AFTER and not progress.expected
    logger.log(logging.WARNING if late else logging.INFO, "%s", progress)
