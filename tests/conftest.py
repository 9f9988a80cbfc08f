"""One etcd for each test process, one of its own for tests that break it, and a check that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import eventually, processes
from hypothesis import settings
from jobs import Place

from psbarrier.embedded import EtcdServer
from psbarrier.etcd_binary import etcd_version

# A shared machine may stop for a second anywhere, so how long one example took says nothing.
settings.register_profile("psbarrier", deadline=None, print_blob=True)
settings.load_profile("psbarrier")

# A shell that puts us into the background has us ignore Ctrl-C, and the processes under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Further etcd programs, each of which the tests that start an etcd run on, in place of the usual one.
_ETCDS = [path for path in os.environ.get("PSBARRIER_TEST_ETCD", "").split(os.pathsep) if path]
_STARTS_ETCD = ("etcd", "own_etcd", "EtcdServer", "EtcdCluster", "guarded_etcd")
_OVER_BOTH = ("place", "store")  # fixtures over memory and over etcd; their parameter says which

_MARK = "TEST_PROCESS_MARK"
# Python itself and its libraries start these once, and end them with this process.
_NOT_OURS = ("resource_tracker", "forkserver")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """When the tests of this process are over, no process that they started runs, and no folder of ours is left.

    Whatever the tests start inherits an environment variable with a random value, so an orphan is found too.
    """
    tmp_path_factory.getbasetemp()  # pytest's own folder is chosen before we move the place for temporary files
    folder, mark = Path(tempfile.mkdtemp(prefix="psb-")), uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_MARK, mark)
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    gone = eventually(lambda: not _left_processes(mark), timeout=15)
    folders = sorted(path.name for path in folder.glob("psbarrier-*"))
    shutil.rmtree(folder, ignore_errors=True)
    assert gone, f"These processes were left behind: {_left_processes(mark)}."
    assert not folders, f"These folders were left behind: {folders}."


def _left_processes(mark: str) -> dict[int, str]:
    """Our children, zombies too, and, where /proc tells environments, all their descendants."""
    me = os.getpid()
    return {
        pid: command
        for pid, (parent, command) in processes().items()
        if pid != me and (parent == me or _has_mark(pid, mark)) and not any(name in command for name in _NOT_OURS)
    }


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return f"{_MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each etcd program that is to be tried."""
    fixtures = metafunc.fixturenames
    if _ETCDS and (_starts_etcd(fixtures, metafunc.module) or any(name in fixtures for name in _OVER_BOTH)):
        metafunc.parametrize("etcd_program", _ETCDS, indirect=True, scope="session", ids=_version)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where other programs are to be tried, a test that starts none has nothing to say."""
    if _ETCDS:
        of_no_use = [item for item in items if not _has_a_say(item)]
        config.hook.pytest_deselected(items=of_no_use)
        items[:] = [item for item in items if item not in of_no_use]


def _has_a_say(item: pytest.Item) -> bool:
    fixtures, module = getattr(item, "fixturenames", ()), item.getparent(pytest.Module)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    over = [parameters[name] for name in _OVER_BOTH if name in parameters] or ["memory"] * ("memory" in fixtures)
    return "etcd" in over if over else _starts_etcd(fixtures, getattr(module, "obj", None))


def _starts_etcd(fixtures: Collection[str], module: Any) -> bool:
    return any(name in fixtures or hasattr(module, name) for name in _STARTS_ETCD)


def _version(program: str) -> str:
    return ".".join(map(str, etcd_version(program)))


@pytest.fixture(scope="session", autouse=True)
def etcd_program(request: pytest.FixtureRequest) -> Iterator[None]:
    """Which etcd every test and its processes start."""
    with pytest.MonkeyPatch.context() as patch:
        if (program := getattr(request, "param", None)) is not None:
            patch.setenv("PSBARRIER_ETCD", program)
        yield


@pytest.fixture(scope="session")
def etcd(nothing_left_behind: None, etcd_program: None) -> Iterator[EtcdServer]:
    """The etcd that all tests of this process share: use random job names, and leave it running."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """An etcd for this test alone, to be killed, paused and restarted."""
    with EtcdServer() as server:
        yield server


@pytest.fixture(params=["memory", "etcd"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where jobs run: every promise holds over both."""
    with Place(request.getfixturevalue("etcd") if request.param == "etcd" else None) as where:
        yield where


@pytest.fixture
def memory() -> Iterator[Place]:
    """For promises that need a clock that stands still, or failures on demand."""
    with Place() as where:
        yield where


@pytest.fixture
def real(etcd: EtcdServer) -> Iterator[Place]:
    """For promises about real time, or about etcd itself."""
    with Place(etcd) as where:
        yield where
