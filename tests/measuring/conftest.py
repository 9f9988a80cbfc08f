"""The benchmarks are no part of the package, and so are found by the path of the repository."""

from __future__ import annotations

import sys
from pathlib import Path

# At the end: what is tested is the psbarrier that is installed.
sys.path.append(str(Path(__file__).parents[2]))
