"""Standard error: log lines, and on a terminal a display of what is being waited for."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from psbarrier.flows.effects import Progress, describe_missing
from psbarrier.report import log_progress

logger = logging.getLogger("psbarrier")


class Screen(logging.Handler):
    """Writes each record of the logger `psbarrier`, from INFO on, as one line, above the display if there is one.

    A context manager; safe from any thread.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(logging.INFO)
        # Looked up at each use where it was not given: whoever captures standard error replaces it.
        self._stream = stream
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._before = (logger.level, logger.propagate)

    def __enter__(self) -> Self:
        self._before = (logger.level, logger.propagate)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        logger.removeHandler(self)
        logger.setLevel(self._before[0])
        logger.propagate = self._before[1]

    @property
    def stream(self) -> TextIO:
        """Where it writes."""
        return self._stream or sys.stderr

    def tell(self, progress: Progress) -> None:
        """Say what is waited for: drawn on a terminal, as a log line elsewhere."""
        if self.stream.isatty():
            self._draw(progress)
        else:
            log_progress(progress)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        line = f"psbarrier: {' '.join(record.getMessage().split())}"
        with self._lock:
            if self._live is not None:
                self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
                return
            try:
                self.stream.write(f"{line}\n")
                self.stream.flush()
            except (OSError, ValueError):
                self.handleError(record)

    def _draw(self, progress: Progress) -> None:
        """In place of what was drawn before; it counts on by itself."""
        with self._lock:
            view = _Waiting(progress)
            if self._live is None:
                console = Console(file=self.stream)
                self._live = Live(view, console=console, transient=True, refresh_per_second=4, redirect_stdout=False)
                self._live.start()
            else:
                self._live.update(view, refresh=True)

    def clear(self) -> None:
        """Take the display away, for the wait is over or somebody else writes to the terminal."""
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                live.stop()


class _Waiting:
    """A bar of how many are there, who is missing and why, and the time that is left."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._drawn = progress, time.monotonic()

    def __rich__(self) -> RenderableType:
        progress, since = self._progress, time.monotonic() - self._drawn
        left = "no deadline" if progress.left is None else f"{max(0.0, progress.left - since):.0f} s left"
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text(progress.what),
            ProgressBar(total=max(progress.of, 1), completed=progress.there, width=24),
            Text(f"{progress.there}/{progress.of}"),
            Text(f"{progress.waited + since:.0f} s, {left}", style="dim"),
        )
        if not progress.missing:
            return row
        missing = describe_missing(progress.missing, progress.of - progress.there)
        return Group(row, Text(f"  missing: {missing}", style="yellow"))
