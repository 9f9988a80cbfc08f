"""The pytest plugin, as a project that has psbarrier installed meets it: in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

USES_BOTH = """
import psbarrier

def test_etcd(psbarrier_etcd, request):
    with psbarrier.join(psbarrier_etcd.endpoint, "job", "worker", 0, replicas={"worker": 1}) as me:
        assert str(me.cluster()) == "worker=1"

def test_etcd_is_the_same_one(psbarrier_etcd):
    assert psbarrier_etcd.pid is not None

def test_store(psbarrier_store):
    with psbarrier.join(psbarrier_store, "job", "worker", 0, replicas={"worker": 1}, address="a:1") as me:
        assert str(me.cluster()) == "worker=1"

def test_store_is_a_new_one(psbarrier_store):
    with psbarrier.join(psbarrier_store, "job", "ps", 0, replicas={"ps": 1}, address="a:1") as me:
        assert str(me.cluster()) == "ps=1"
"""

IMPORTS_NOTHING = """
import sys

def test_grpc_is_not_there():
    assert not {"grpc", "etcd3", "google.protobuf"} & sys.modules.keys()
"""


def pytest_in(folder: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a file with `text`, with no configuration but the installed plugins."""
    (folder / "test_it.py").write_text(text)
    # -c: not our own configuration. Coverage, or whatever else may be installed here, is not what is tested.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
        "-v",
    ]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PSBARRIER_", "PYTEST_"))}
    return subprocess.run(
        [*command, str(folder)], env=inherited | environment, capture_output=True, text=True, cwd=folder, check=False
    )


def test_it_comes_with_the_package() -> None:
    """Installing is enough; no conftest.py has to name it."""
    assert [found.value for found in entry_points(group="pytest11", name="psbarrier")] == ["psbarrier.pytest_plugin"]


def test_both_fixtures_serve_a_job(tmp_path: Path) -> None:
    """A real etcd for the session, and a new memory store for each test."""
    said = pytest_in(tmp_path, USES_BOTH)
    assert "4 passed" in said.stdout, said.stdout + said.stderr


def test_pytest_starts_without_grpc(tmp_path: Path) -> None:
    """Whoever has psbarrier installed does not pay for gRPC in each run of other tests."""
    said = pytest_in(tmp_path, IMPORTS_NOTHING)
    assert "1 passed" in said.stdout, said.stdout + said.stderr


def test_without_an_etcd_the_fixture_fails_and_says_why(tmp_path: Path) -> None:
    """A test that was silently skipped would look like one that passed."""
    said = pytest_in(tmp_path, USES_BOTH, PSBARRIER_ETCD=str(tmp_path / "nowhere"))
    assert "2 passed" in said.stdout, said.stdout + said.stderr
    assert "2 errors" in said.stdout
    assert "EtcdNotFoundError" in said.stdout
