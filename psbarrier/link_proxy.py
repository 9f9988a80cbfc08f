"""The thread on which links run, and the ports at which they begin."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from psbarrier.errors import ClosedError
from psbarrier.link import Link, end

_Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
T = TypeVar("T")

_PATIENCE = 30.0  # seconds for what the loop does in microseconds, unless the machine stands still
_HEAD = 10.0  # seconds that a peer has to say whom it wants
# Where embedded.py takes its ports from, for the reason given there.
_PORTS = range(20000, 30000)


class LinkProxy:
    """Listens on loopback ports and hands each connection to a link. Safe from any thread, until `close()`.

    Not inherited by a fork: in a child process `close()` does nothing, and nothing else works.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._handlers: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._run, name="psbarrier-links", daemon=True)
        self._thread.start()

    def do(self, action: Coroutine[Any, Any, T]) -> T:
        """Run `action` on the links' thread and wait for its end."""
        if self._owner != os.getpid() or not self._thread.is_alive():
            action.close()
            raise ClosedError("These links are closed, or belong to the parent process; make a new cluster.")
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(_PATIENCE)

    def forward(self, link: Link, target: Callable[[], int]) -> int:
        """Listen on a new port and carry every connection to `target()`, a loopback port; the new port."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link.accept(reader, writer, target, b"")

        return self.do(self._listen(accept))

    def tunnel(self, routes: Mapping[str, tuple[Link, Callable[[], int]]]) -> int:
        """Listen on a new port as an HTTP proxy that knows CONNECT to the hosts in `routes`; the new port.

        Each host, "name:port" as clients say it, has its link and the loopback port at which it really is.
        """

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            route = None
            try:
                route = routes.get(await _wanted(reader))
            finally:
                if route is None:
                    end(writer)
            if route is not None:
                link, target = route
                link.accept(reader, writer, target, b"HTTP/1.1 200 OK\r\n\r\n")

        return self.do(self._listen(accept))

    def close(self) -> None:
        """End every connection, free the ports and end the thread. Idempotent."""
        if self._owner == os.getpid() and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
            runner.run(self._shut())

    async def _shut(self) -> None:
        for server in self._servers:
            for sock in server.sockets:
                with contextlib.suppress(OSError):  # so that it ends in a forked child, too
                    sock.shutdown(socket.SHUT_RDWR)
            server.close()
        # A connection that is just being accepted becomes one more task.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            await asyncio.sleep(0)

    async def _listen(self, accept: _Accept) -> int:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(accept(reader, writer))
            self._handlers.add(task)

            def done(task: asyncio.Task[None]) -> None:
                self._handlers.discard(task)
                if task.cancelled():  # perhaps before it began, so it could not do this itself
                    end(writer)

            task.add_done_callback(done)

        while True:
            port = secrets.choice(_PORTS)
            with contextlib.suppress(OSError):  # taken: another one
                self._servers.append(await asyncio.start_server(accepted, "127.0.0.1", port))
                return port


async def _wanted(reader: asyncio.StreamReader) -> str:
    """The host of a CONNECT request, or "" for anything else."""
    try:
        async with asyncio.timeout(_HEAD):
            head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        return ""
    method, _, rest = head.decode("latin-1").partition(" ")
    return rest.partition(" ")[0] if method == "CONNECT" else ""
