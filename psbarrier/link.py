"""A path for TCP connections that a test can cut, silence and slow down.

Everything here runs on the event loop of a LinkProxy (psbarrier/link_proxy.py); nothing here is safe from other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from psbarrier.errors import ClosedError

_CHUNK = 64 * 1024  # bytes
_QUEUED = 16  # chunks on their way in one direction; then the sender has to wait, as on a real path


class Link:
    """Carries any number of connections. Its faults hold for the connections it has, and for each new one."""

    def __init__(self) -> None:
        self._up = True
        self._audible = asyncio.Event()
        self._audible.set()
        self._delay = 0.0
        self._carried: set[asyncio.Task[None]] = set()

    async def cut(self) -> None:
        """End every connection, and each new one at once; when this returns, nothing passes any more."""
        self._up = False
        self._audible.set()
        await _drop(*self._carried)

    async def mute(self) -> None:
        """Hold every byte back, in both directions; connections stay open, and new ones get no answer."""
        self._up = True
        self._audible.clear()

    async def slow(self, seconds: float) -> None:
        """From now on each byte arrives so many seconds later, in both directions."""
        self._delay = seconds

    async def join(self) -> None:
        """Carry connections, and hand over what was held back; the delay stays."""
        self._up = True
        self._audible.set()

    def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Callable[[], int], greeting: bytes
    ) -> None:
        """Carry a connection to the loopback port `target()`; once it is open, say `greeting` to who opened it."""
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer, target, greeting))
        self._carried.add(task)

        def done(task: asyncio.Task[None]) -> None:  # and not in the task, which may be cancelled before it has begun
            self._carried.discard(task)
            end(writer)

        task.add_done_callback(done)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Callable[[], int], greeting: bytes
    ) -> None:
        if not self._up:
            return
        await self._audible.wait()
        with contextlib.suppress(OSError, ClosedError):  # nobody listens there (yet), so nobody seems to listen here
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target())
            try:
                writer.write(greeting)
                await self._exchange(reader, writer, far_reader, far_writer)
            finally:
                end(far_writer)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Until one side ends: neither gRPC nor etcd's peers close one direction only."""
        loop = asyncio.get_running_loop()
        flows = [
            loop.create_task(self._flow(reader, far_writer)),
            loop.create_task(self._flow(far_reader, writer)),
        ]
        try:
            await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _drop(*flows)

    async def _flow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction. Reading goes on while a chunk is on its way: the delay is a distance, not a bottleneck."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        taking = loop.create_task(self._take(reader, under_way))
        try:
            while True:
                due, data = await under_way.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await self._audible.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        finally:
            await _drop(taking)

    async def _take(self, reader: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # a broken connection ends like a closed one
            while data := await reader.read(_CHUNK):
                await under_way.put((loop.time() + self._delay, data))
        await under_way.put((loop.time() + self._delay, b""))


async def _drop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def end(writer: asyncio.StreamWriter) -> None:
    """Close at once. The shutdown also ends it where a forked child holds a copy of the socket."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    writer.transport.abort()
