"""A real ZooKeeper on this machine, for as long as a benchmark runs: one server, in a temporary folder."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from psbarrier.embedded import free_ports
from psbarrier.sitter import Sitter

JAR = Path("/usr/share/java/zookeeper.jar")  # where Debian's package has it
_READY_TIMEOUT = 60.0
_CONFIGURATION = """
tickTime=2000
dataDir={folder}
clientPortAddress=127.0.0.1
clientPort={port}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
"""


def obstacle() -> str | None:
    """Why there can be no ZooKeeper here; None where there can."""
    if shutil.which("java") is None:
        return "there is no Java: apt-get install default-jre-headless"
    if not jar().exists():
        return f"there is no ZooKeeper at {jar()}: apt-get install zookeeper, or name its jar in ZOOKEEPER_JAR"
    return None


def jar() -> Path:
    """ZooKeeper's jar, whose manifest names those that it needs."""
    return Path(os.environ.get("ZOOKEEPER_JAR", JAR))


class ZooKeeper:
    """One server, as a context manager. With `fsync` a write is on the disk before it is answered."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._folder = Path(tempfile.gettempdir(), f"psbarrier-zookeeper-{secrets.token_hex(8)}")
        self._port = free_ports(1)[0]
        self._fsync = fsync

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def __enter__(self) -> Self:
        # Nothing of it stays behind, however this process ends.
        self._sitter = Sitter()
        self._sitter.folder(self._folder)
        self._folder.mkdir(mode=0o700)
        configuration = self._folder / "zoo.cfg"
        configuration.write_text(_CONFIGURATION.format(folder=self._folder / "data", port=self._port))
        options = ["-Xmx1g", f"-Dzookeeper.forceSync={'yes' if self._fsync else 'no'}"]
        main = "org.apache.zookeeper.server.ZooKeeperServerMain"
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                ["java", *options, "-cp", str(jar()), main, str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._sitter.guard(self._process.pid, grace=0.0)
        try:
            self.version = self._await_version()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove its folder."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._sitter.forget(self._process.pid)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._sitter.close()

    def _await_version(self) -> str:
        until = time.monotonic() + _READY_TIMEOUT
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
                    connection.sendall(b"srvr")
                    answer = connection.makefile().readline()
            except OSError:
                time.sleep(0.1)
                continue
            if answer.startswith("Zookeeper version: "):
                return answer.split()[2].partition("-")[0]
        words = (self._folder / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"ZooKeeper did not come up: {words}")
