"""Anchor: our end of the tether to the command, when a process of it uses the task that we hold."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from psbarrier.tether import LISTENING, LONGEST_PATH, STOP

logger = logging.getLogger("psbarrier")


class Anchor:
    """Waits at a socket in a private folder for the process that attaches; `on_tied` is called, on a thread, when it has.

    One process attaches to a task, so one at a time is heard.
    """

    def __init__(self, path: Path, on_tied: Callable[[], None]) -> None:
        self._path, self._on_tied = path, on_tied
        self._lock = threading.Lock()
        self._closed = False
        self._line: socket.socket | None = None
        self._listening = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(os.fspath(path))
        self._socket.listen(1)
        self._woken, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="psbarrier-anchor", daemon=True)
        self._thread.start()

    @classmethod
    def cast(cls, place: Callable[[], Path], on_tied: Callable[[], None]) -> Anchor | None:
        """An anchor at `place()`; None, with a word, where no socket can be: the command is then ended by signals only."""
        try:
            path = place()
            if len(os.fsencode(path)) > LONGEST_PATH:
                raise OSError(f"the path of the temporary folder is longer than {LONGEST_PATH} bytes")
            return cls(path, on_tied)
        except OSError as error:
            logger.warning("the command cannot be told of a preemption before it is ended: %s", error)
            return None

    @property
    def path(self) -> str:
        """Where to tie."""
        return os.fspath(self._path)

    def stop(self, seconds: float) -> bool:
        """Ask the command to end within `seconds`; False when it does not listen, and must be told by a signal."""
        with self._lock:
            if self._line is None or not self._listening:
                return False
            try:
                self._line.sendall(b"%s %g\n" % (STOP, seconds))
            except OSError:
                return False
            return True

    def close(self) -> None:
        """Stop waiting, and remove the socket. Idempotent."""
        with self._lock:
            self._closed = True
            if self._line is not None:
                with contextlib.suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)
        self._waker.close()  # and not by a connection of our own: somebody may have cleaned up the temporary folder
        self._thread.join()
        self._woken.close()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while self._knocked():
            line, _ = self._socket.accept()
            with line:
                with self._lock:
                    if self._closed:
                        return
                    self._line = line
                self._on_tied()
                self._hear(line)
                with self._lock:
                    self._line, self._listening = None, False

    def _knocked(self) -> bool:
        """Wait for a connection; False when this is closed first."""
        poll = select.poll()  # select() itself takes no descriptor above 1,023
        poll.register(self._socket, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        return self._woken.fileno() not in dict(poll.poll())

    def _hear(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line.makefile("rb") as lines:
            for said in lines:
                if said.strip() == LISTENING:
                    with self._lock:
                        self._listening = True
