"""The golden files: for each folder of golden/ a job file, and what is made of it, one file for each kind.

`python tests/k8s/goldens.py` writes them anew; what changed is then for a reviewer to read.
"""

from __future__ import annotations

from pathlib import Path

from psbarrier.k8s import manifests
from psbarrier.k8s.documents import dump
from psbarrier.k8s.jobfile import load
from psbarrier.k8s.manifests import KINDS

FOLDER = Path(__file__).parent / "golden"
FIRST = FOLDER / "first" / "described.yaml"
CASES = [(folder.name, kind) for folder in sorted(FOLDER.iterdir()) for kind in KINDS]


def path(case: str, kind: str) -> Path:
    return FOLDER / case / f"{kind}.yaml"


def made(case: str, kind: str) -> str:
    file = FOLDER / case / "described.yaml"
    return dump(manifests(load(file.read_text(), file.name), kind))


if __name__ == "__main__":
    for golden in CASES:
        path(*golden).write_text(made(*golden))
