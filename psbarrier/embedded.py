"""A real etcd for tests and for one machine: a temporary folder, free loopback ports, and nothing left behind.

Every etcd that is started here compacts its history by itself, and ends with this process, however this process ends
(see psbarrier/sitter.py). The order that leaves no gap: the sitter knows the folder's name before the folder is made,
and etcd's process group before etcd runs. For the latter the child first is a shell that waits for one line from us,
and becomes etcd only then; if we die before we have told the sitter, the shell reads the end of its input and exits.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from psbarrier.errors import ClosedError, StoreUnavailableError
from psbarrier.etcd_binary import etcd_environment, etcd_version, find_etcd
from psbarrier.sitter import Sitter

NAME = "psbarrier-embedded"  # with it begins the name of each member that we start; psbarrier/store/notice.py knows it
READY_TIMEOUT = 30.0  # seconds that etcd gets to answer
STOP_TIMEOUT = 15.0  # seconds between SIGTERM and SIGKILL; with open streams etcd takes about 7 to end by itself
_POLL = 0.02
_PORT_PAUSE = 0.5
_WORDS = 300  # characters of each line of its log; stack traces follow
# Below the ports that Linux (32768…) and macOS (49152…) give to outgoing connections: a client that keeps dialling a
# stopped etcd could otherwise be given etcd's own port, connect to itself, and keep etcd from coming back.
_PORTS = range(20000, 30000)
_GATE = 'read -r go && exec "$@" </dev/null'


def free_ports(count: int) -> list[int]:
    """`count` different loopback TCP ports that are free now; somebody else may take one before it is used."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            # Not from `random`: whoever seeds it would make two processes try the same ports.
            port = secrets.choice(_PORTS)
            probe = stack.enter_context(socket.socket())
            # As etcd does it: a connection of a former server that lingers does not make the port a used one.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


class EtcdServer:
    """One etcd, as a context manager; for one thread at a time.

    `folder` is where it keeps its data: by default a temporary folder that `close()` removes; one that the caller
    names is the caller's, and stays. `extra_args` are flags that override ours; with `--cert-file` it speaks TLS.
    """

    def __init__(
        self,
        *,
        binary: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:
        self._binary = find_etcd(binary)
        self._owner = os.getpid()
        self._temporary = folder is None
        # Our own random name instead of mkdtemp: the sitter must know it before the folder exists.
        unused = os.path.join(tempfile.gettempdir(), f"psbarrier-etcd-{secrets.token_hex(8)}")
        self.folder = Path(os.path.abspath(folder or unused))
        self._extra_args = tuple(extra_args)
        self._name = f"{NAME}-{secrets.token_hex(8)}"
        self._tls = any(arg.lstrip("-").startswith(("cert-file", "auto-tls")) for arg in extra_args)
        self._ports: list[int] = []
        self._sitter: Sitter | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "stopped" if self.pid is None else f"pid {self.pid}"
        return f"<EtcdServer {self.endpoint if self._ports else 'not started'}: {state}>"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """Where clients find it, "127.0.0.1:PORT"; the same after every restart. Known once it was started."""
        if not self._ports:
            raise ClosedError("This EtcdServer was not started yet, so it has no endpoint; call start() first.")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int | None:
        """etcd's process id, or None while it does not run."""
        if self._process is None:
            return None
        if self._process.poll() is not None:
            self._reaped()
            return None
        return self._process.pid

    @property
    def version(self) -> tuple[int, ...]:
        """etcd's version, such as (3, 5, 1)."""
        return etcd_version(self._binary)

    def start(self, *, wait: bool = True) -> None:
        """Start etcd, with the data and ports it had before, and return once it answers; nothing if it runs.

        With wait=False it returns once the process runs, for a member of a cluster that has no quorum yet.

        Raises StoreUnavailableError, with etcd's last words, if it does not answer within 30 seconds, EtcdNotFoundError
        if the program cannot be run, and ClosedError after `close()`.
        """
        if self._closed:
            raise ClosedError("This EtcdServer was closed and its data is gone; make another one.")
        if self.pid is not None:
            return
        until = time.monotonic() + READY_TIMEOUT
        first = not self._ports
        self._make_folder()
        try:
            if not wait:
                self._ports = self._ports or free_ports(3)
                self._launch()
                return
            while not self._came_up(first, until):
                pass
        except BaseException:
            self._end(signal.SIGKILL)
            self._ports = [] if first else self._ports
            raise

    def stop(self) -> None:
        """End it gracefully (SIGTERM; SIGKILL after 15 seconds); its data stays for the next start."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; its data stays for the next start."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """`stop()` if it runs, then `start()`: same data, same endpoint."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and are not answered, from when this returns."""
        self._signal(signal.SIGSTOP)
        if self.pid is not None and hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # it has ended meanwhile
                # The signal is sent, but another processor may still run one of its threads.
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a frozen etcd go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its temporary folder. Idempotent; nothing in a forked child of the process that made it."""
        if self._closed or self._owner != os.getpid():
            return
        self._closed = True
        # Nobody will ever read data that is removed next, so nothing is gained by a graceful end.
        self._end(signal.SIGKILL if self._temporary else signal.SIGTERM)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._sitter is not None:
            self._sitter.close()

    def _make_folder(self) -> None:
        if self._sitter is None:
            self._sitter = Sitter()
            if self._temporary:
                self._sitter.folder(self.folder)
                self.folder.mkdir(mode=0o700)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _came_up(self, first: bool, until: float) -> bool:
        """One try. False when a port was taken: try others or, after the first start, wait for the old ones."""
        self._ports = free_ports(3) if first else self._ports
        self._launch()
        while self.pid is not None and time.monotonic() < until:
            if self._healthy() and self.pid is not None:
                return True
            time.sleep(_POLL)
        words = self._last_words()
        if self.pid is None and "address already in use" in words and time.monotonic() < until:
            time.sleep(_POLL if first else _PORT_PAUSE)
            return False
        raise StoreUnavailableError(
            f"The etcd started at {self.endpoint} did not come up; its last words are: {words}",
            reasons={self.endpoint: words},
            applied=False,
        )

    def _launch(self) -> None:
        assert self._sitter is not None
        command = self._command()
        with open(self.folder / "etcd.log", "wb") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
                start_new_session=True,
            )
        self._process = process
        self._sitter.guard(process.pid, grace=0.0 if self._temporary else STOP_TIMEOUT)
        assert process.stdin is not None
        # A shell that was killed meanwhile is noticed like an etcd that was.
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(b"go\n")

    def _command(self) -> list[str]:
        client, _, metrics = self._ports
        client_url = f"{'https' if self._tls else 'http'}://127.0.0.1:{client}"
        flags = [
            *self._cluster_flags(),
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=5m",
            "--logger=zap",
            "--log-level=error",
            "--log-outputs=stderr",
        ]
        if self.version >= (3, 5):
            # The page cache outlives etcd, if not the machine, and so does this data.
            flags.append("--unsafe-no-fsync")
        if self._tls:
            # We have no client certificate; this port tells how it is without one.
            flags.append(f"--listen-metrics-urls=http://127.0.0.1:{metrics}")
        return [self._binary, *flags, *self._extra_args]

    def _cluster_flags(self) -> list[str]:
        """Who it is, and who else belongs to its cluster: nobody."""
        url = f"http://127.0.0.1:{self._ports[1]}"
        return [
            f"--name={self._name}",
            f"--listen-peer-urls={url}",
            f"--initial-advertise-peer-urls={url}",
            f"--initial-cluster={self._name}={url}",
        ]

    def _environment(self) -> dict[str, str]:
        return etcd_environment()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[2 if self._tls else 0], timeout=2.0)
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            return answer.status == 200 and b"true" in answer.read() and (self._tls or self._is_ours(connection))
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def _is_ours(self, connection: http.client.HTTPConnection) -> bool:
        """Whether it is ours that answers: another's may have taken the port while ours was starting, which ours notices
        only in a moment. One that does not say who its members are has nobody to be mistaken for."""
        connection.request("POST", "/v3/cluster/member/list", "{}")
        answer = connection.getresponse()
        members = json.loads(answer.read()).get("members", [])
        return answer.status != 200 or any(member.get("name") == self._name for member in members)

    def _last_words(self) -> str:
        """The end of etcd's log, or, if it refused a flag, what stands before its long usage text."""
        with contextlib.suppress(OSError):
            log = (self.folder / "etcd.log").read_text(errors="replace").partition("\nUsage:")[0]
            return "\n".join(line[:_WORDS] for line in log.strip().splitlines()[-5:]) or "(none)"
        return "(none)"

    def _signal(self, number: int) -> None:
        if self._process is None or self.pid is None:
            raise ClosedError("This etcd does not run; call start() first.")
        self._send(self._process, number)

    def _end(self, number: int) -> None:
        process = self._process
        if process is None or self.pid is None:
            return
        self._send(process, number)
        self._send(process, signal.SIGCONT)  # a frozen etcd hears SIGTERM only when it goes on
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._send(process, signal.SIGKILL)
            process.wait()
        self._reaped()

    @staticmethod
    def _send(process: subprocess.Popen[bytes], number: int) -> None:
        # It may have ended meanwhile: a zombie refuses signals on macOS.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)

    def _reaped(self) -> None:
        """Tell the sitter at once: from now on the system may use the number again."""
        if self._process is not None and self._sitter is not None:
            self._sitter.forget(self._process.pid)
        self._process = None
