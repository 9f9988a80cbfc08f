"""Tether: what a process hears of its guardian, the process that holds the lease for it.

Over a stream, a line each: the guardian says `stop SECONDS` when somebody asked the task to end and it has so long; the
process says `listening` when it wants to be told so, and not by a signal. The end of the stream is the guardian's death:
the kernel sends it, whatever the guardian died of.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import IO

logger = logging.getLogger("psbarrier")

STOP, LISTENING = b"stop", b"listening"
LONGEST_PATH = 100
"""Bytes that every system allows for the path of a socket."""
_CLOSING = 2.0


class Tether:
    """Reads `lines` on a thread of its own, until they end; then, unless it was closed, calls `on_death` there.

    `say` sends a line, and `hang_up` makes `lines` end.
    """

    def __init__(
        self,
        lines: IO[bytes],
        on_death: Callable[[], None],
        hang_up: Callable[[], None],
        say: Callable[[bytes], object] | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self._lines, self._on_death, self._hang_up, self._say = lines, on_death, hang_up, say
        self._closed = self._listening = False
        self._thread = threading.Thread(target=self._run, name="psbarrier-tether", daemon=True)
        self._thread.start()

    @classmethod
    def tie(cls, path: str, on_death: Callable[[], None]) -> Tether:
        """A tether to the guardian that listens at the socket `path`; OSError when nobody does."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.connect(path)
        except BaseException:
            line.close()
            raise

        def hang_up() -> None:
            with contextlib.suppress(OSError):  # the guardian is gone
                line.shutdown(socket.SHUT_RDWR)
            line.close()

        return cls(line.makefile("rb"), on_death, hang_up, line.sendall)

    def listen(self) -> None:
        """From now on `stopping` is looked at: the guardian need not use a signal, which ends most programs at once."""
        if self._say is not None and not self._listening:
            self._listening = True
            with contextlib.suppress(OSError):  # it is dead, and asks for nothing any more
                self._say(LISTENING + b"\n")

    def close(self) -> None:
        """Let the guardian go; whatever becomes of it is no news any more. Idempotent."""
        self._closed = True
        self._hang_up()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSING)

    def _run(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._lines:  # broken or closed: ended, in either case
            for line in self._lines:
                match line.split():
                    case [word, seconds] if word == STOP:
                        logger.info("this task is asked to end within %s s", seconds.decode("ascii", "replace"))
                        self.stopping.set()
        if not self._closed:
            self._on_death()
