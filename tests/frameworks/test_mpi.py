"""The host files, read by the launchers themselves: PRRTE's prterun, which is Open MPI's mpirun, and MPICH's Hydra.

Both packages have an mpirun, so each goes by its other name here.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from frameworks.helpers import PATIENCE, script
from psbarrier import emit
from psbarrier.spec import ClusterSpec

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        not Path(script("prterun")).exists(), reason="mpirun is in the tox environment launchers, and not here"
    ),
]

HERE = ClusterSpec.from_addresses({"worker": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]})
ROOT = {"PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
LAUNCHERS = {
    "openmpi": ((script("prterun"), "--bind-to", "none", "--hostfile"), "PMIX_RANK"),
    "mpich": ((script("mpiexec.hydra"), "-f"), "PMI_RANK"),
}


def launched(form: str, spec: ClusterSpec, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command under the launcher that reads the format's file."""
    path = folder / "hosts"
    path.write_text(emit.file(form, spec))
    return subprocess.run(
        [*LAUNCHERS[form][0], str(path), *command],
        env={**os.environ, **ROOT},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("form", LAUNCHERS)
def test_a_process_is_started_for_each_task(tmp_path: Path, form: str) -> None:
    """And no more have room."""
    said = launched(form, HERE, tmp_path, "-n", "3", "printenv", LAUNCHERS[form][1])
    assert sorted(said.stdout.split()) == ["0", "1", "2"], said.stderr


def test_open_mpi_has_no_room_for_more(tmp_path: Path) -> None:
    """So the numbers in the file are what counts."""
    assert launched("openmpi", HERE, tmp_path, "-n", "4", "true").returncode != 0


def test_open_mpi_reads_names_and_addresses_of_both_kinds(tmp_path: Path) -> None:
    """With as many slots as the host has tasks."""
    spec = ClusterSpec.from_addresses({"worker": ["10.0.0.1:1", "[fd00::5]:1", "node-7:1", "[fd00::5]:2"]})
    said = launched("openmpi", spec, tmp_path, "--display", "allocation", "--do-not-launch", "-n", "4", "true")
    for line in ("10.0.0.1: slots=1 ", "fd00::5: slots=2 ", "node-7: slots=1 "):
        assert f"    {line}" in said.stdout, said.stdout
