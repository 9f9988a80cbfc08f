"""Funnel: the output of many commands on one screen, line by line, each with the task's name before it."""

from __future__ import annotations

import os
import selectors
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

from attrs import define

from psbarrier.cli.screen import Screen
from psbarrier.spec import Task

LONGEST = 1024 * 1024
"""Bytes after which a line is written although its end has not come."""
_CHUNK = 65536
_COLOURS = (36, 32, 33, 35, 34, 31)
_CLOSING = 1.0


@define(eq=False)
class _Pipe:
    """One output of one command, and the line that it has begun."""

    prefix: bytes
    target: BinaryIO
    begun: bytearray


class Funnel:
    """Reads the outputs of all commands on one thread, so that no line is cut by another. A context manager.

    Standard output and standard error stay apart. What is not text passes through as it is. When nobody reads our own
    output any more, `on_broken` is called once, and the rest is thrown away.
    """

    def __init__(self, screen: Screen, on_broken: Callable[[], None], out: BinaryIO | None = None) -> None:
        self._screen, self._on_broken = screen, on_broken
        self._out, self._err = out or sys.stdout.buffer, out or sys.stderr.buffer
        self._coloured = out is None and sys.stdout.isatty()
        self._selector = selectors.DefaultSelector()
        self._roles: list[str] = []
        self._lock = threading.Lock()
        self._broken = False
        self._bell, ring = os.pipe()
        self._ring = ring
        self._closing = False
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="psbarrier-output", daemon=True)

    def __enter__(self) -> Funnel:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what the commands, which have ended, have left in their pipes."""
        self._closing = True
        self._wake()
        self._thread.join(_CLOSING)

    def open(self, task: Task) -> tuple[int, int, int]:
        """Descriptors for a new command: it reads nothing, and writes to us. The caller closes them."""
        outputs = [self._add(task, target) for target in (self._out, self._err)]
        return os.open(os.devnull, os.O_RDONLY), outputs[0], outputs[1]

    def _add(self, task: Task, target: BinaryIO) -> int:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        with self._lock:
            self._selector.register(ours, selectors.EVENT_READ, _Pipe(self._prefix(task), target, bytearray()))
        self._wake()
        return theirs

    def _prefix(self, task: Task) -> bytes:
        if task.role not in self._roles:
            self._roles.append(task.role)
        label = f"[{task}] "
        if self._coloured:
            label = f"\033[{_COLOURS[self._roles.index(task.role) % len(_COLOURS)]}m[{task}]\033[0m "
        return label.encode()

    def _wake(self) -> None:
        os.write(self._ring, b"!")

    # -- on our thread

    def _serve(self) -> None:
        while not self._closing:
            self._read_some(None)
        while self._read_some(0.0):  # what was written before the commands ended
            pass
        with self._lock:
            for key in list(self._selector.get_map().values()):
                if key.data is not None:
                    self._end(key.fd, key.data)
        self._selector.close()
        os.close(self._bell)
        os.close(self._ring)

    def _read_some(self, timeout: float | None) -> bool:
        """Take what there is; False when there is nothing."""
        ready = self._selector.select(timeout)
        some = False
        for key, _ in ready:
            if key.data is None:
                os.read(self._bell, _CHUNK)
            else:
                some = self._read(key.fd, key.data) or some
        return some

    def _read(self, descriptor: int, pipe: _Pipe) -> bool:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            with self._lock:
                self._end(descriptor, pipe)
            return True
        head, newline, rest = chunk.rpartition(b"\n")
        if newline:
            lines = bytes(pipe.begun) + head
            pipe.begun = bytearray(rest)
            self._write(pipe, lines)
        else:
            pipe.begun += rest
        if len(pipe.begun) > LONGEST:
            self._flush(pipe)
        return True

    def _end(self, descriptor: int, pipe: _Pipe) -> None:
        """The lock is held."""
        self._selector.unregister(descriptor)
        os.close(descriptor)
        if pipe.begun:
            self._flush(pipe)

    def _flush(self, pipe: _Pipe) -> None:
        line, pipe.begun = bytes(pipe.begun), bytearray()
        self._write(pipe, line)

    def _write(self, pipe: _Pipe, lines: bytes) -> None:
        if self._broken:
            return
        text = b"".join(pipe.prefix + line + b"\n" for line in lines.split(b"\n"))
        try:
            self._screen.clear()
            pipe.target.write(text)
            pipe.target.flush()
        except (OSError, ValueError):
            self._broken = True
            self._on_broken()
