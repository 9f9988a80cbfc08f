"""What runs in a training Pod loads neither the Kubernetes client nor PyYAML: the image does not need them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from cli.helpers import finished, run_args, unique

from psbarrier.embedded import EtcdServer


@pytest.fixture
def traps(tmp_path: Path) -> str:
    """Modules of these names that tell of it when they are imported."""
    folder = tmp_path / "traps"
    folder.mkdir()
    for name in ("yaml", "kubernetes"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    return str(folder)


def test_run_imports_neither(etcd: EtcdServer, tmp_path: Path, traps: str) -> None:
    """Nor does what its command imports by `import psbarrier`."""
    command = (sys.executable, "-c", "import psbarrier, psbarrier.k8s; psbarrier.join().close(); print('trained')")
    path = f"{traps}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = finished(tmp_path, etcd, *run_args(unique()), *command, PYTHONPATH=path)
    assert (done.process.returncode, done.out) == (0, "trained\n"), done.text


def test_the_traps_work(etcd: EtcdServer, tmp_path: Path, traps: str) -> None:
    """Else the test above would say nothing."""
    (tmp_path / "job.yaml").write_text("name: a")
    done = finished(tmp_path, None, "k8s", "render", str(tmp_path / "job.yaml"), PYTHONPATH=traps)
    assert "yaml was imported" in done.err
