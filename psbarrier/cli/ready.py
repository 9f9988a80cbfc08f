"""The ready file: there while the command runs, for a readiness probe that must not cost a Python each time."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from psbarrier.errors import InvalidArgumentError

logger = logging.getLogger("psbarrier")


class ReadyFile:
    """A file that is there while a command runs, and not before and after; None: there is no such file.

    Raises InvalidArgumentError for a path where none can be.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        if self._path is None:
            return
        folder = self._path.parent
        try:
            self._path.unlink(missing_ok=True)  # what a former process left behind says nothing of ours
        except OSError as error:
            raise InvalidArgumentError(f"the ready file {path!r} cannot be replaced: {error.strerror}") from error
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise InvalidArgumentError(
                f"the ready file {path!r} cannot be made: name one in a folder that is there and may be written to"
            )

    def make(self) -> None:
        """The command runs."""
        if self._path is not None:
            try:
                self._path.touch()
            except OSError as error:  # the command is worth more than what is told of it
                logger.warning("the ready file %s could not be made: %s", self._path, error.strerror)

    def remove(self) -> None:
        """It does not any more."""
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("the ready file %s could not be removed: %s", self._path, error.strerror)
