"""A relay between a store and its etcd that can be cut, and can keep back what etcd says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Relay:
    """Listens on a loopback port and passes bytes on to `target`, "host:port", in both directions.

    What etcd says first on a connection is kept back for `hesitation` seconds.
    """

    def __init__(self, target: str, host: str = "127.0.0.1", *, hesitation: float = 0.0) -> None:
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        port = self._listener.getsockname()[1]
        self.endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        name, _, target_port = target.rpartition(":")
        self._target = (name, int(target_port))
        self._hesitation = hesitation
        self._lock = threading.Lock()
        self._answering = threading.Event()
        self._answering.set()
        self._up = True
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self._spawn(self._accept)

    def mute(self) -> None:
        """Requests still reach etcd; its answers wait."""
        self._answering.clear()

    def unmute(self) -> None:
        """Answers flow again."""
        self._answering.set()

    def cut(self) -> None:
        """Break every connection, and break each new one at once, until `heal()`."""
        with self._lock:
            self._up = False
            broken, self._sockets = self._sockets, set()
        for sock in broken:
            _end(sock)
        self._answering.set()

    def heal(self) -> None:
        """Accept connections again."""
        with self._lock:
            self._up = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name="relay", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self.connections += 1
                up = self._up
                if up:
                    self._sockets |= {client, server}
            if not up:
                _end(client)
                _end(server)
                continue
            self._spawn(self._pump, client, server, False)
            self._spawn(self._pump, server, client, True)

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            hesitation = self._hesitation if answers else 0.0
            while data := source.recv(65536):
                time.sleep(hesitation)
                hesitation = 0.0
                if answers:
                    self._answering.wait()
                sink.sendall(data)
        except OSError:
            pass
        _end(source)
        _end(sink)
        with self._lock:
            self._sockets -= {source, sink}


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
