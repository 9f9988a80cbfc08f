"""Play one round in a process of its own, as `python -m faults.play FOLDER`: FOLDER.plan.json in, FOLDER.json out.

The folder itself stays only when a promise was broken, or a mistake was planted.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.checker import check, void
from faults.history import History, read
from faults.plan import Plan
from faults.round import play
from faults.verdict import Violation
from psbarrier import embedded, link_proxy

_LANES, _PORTS = 40, 250
"""How many ranges of ports there are, and how many ports in each; all below those that psbarrier uses."""


def verdict(history: History, why_void: str, violations: list[Violation], seconds: float) -> dict[str, Any]:
    """What is kept of every round."""
    plan = history.plan
    return {
        "seed": plan.seed,
        "round": plan.round,
        "theme": plan.theme,
        "flaw": plan.flaw,
        "seconds": round(seconds, 1),
        "faults": dict(Counter(fault.kind for fault in history.faults)),
        "calls": sum(len(process.calls) for process in history.processes),
        "revisions": len(history.revisions),
        "processes": len(history.ended),
        "late": round(sum(end - begin for begin, end in history.late), 2),
        "void": why_void,
        "violations": [[violation.promise, violation.text] for violation in violations],
    }


def judge(folder: Path, seconds: float) -> None:
    """Write the verdict on the history in `folder`, and remove that if nothing is wrong with it."""
    history = read(folder)
    why_void = void(history)
    violations = [] if why_void else check(history)
    said = verdict(history, why_void, violations, seconds)
    Path(f"{folder}.json").write_text(json.dumps(said, indent=1))
    if not violations and not why_void and not history.plan.flaw:
        shutil.rmtree(folder)


@contextmanager
def ports_of_its_own() -> Iterator[None]:
    """A range of ports that no other round uses: while an etcd is down, another's must not come up in its place, for the
    members would go on there."""
    for lane in range(_LANES):
        first = 10_000 + lane * _PORTS
        try:
            lock = socket.create_server(("127.0.0.1", first))  # free again when this process ends, however that is
        except OSError:
            continue
        with lock:
            for module in (embedded, link_proxy):
                setattr(module, "_PORTS", range(first + 1, first + _PORTS))  # noqa: B010  # nobody else chooses them
            yield
            return
    raise RuntimeError(f"all {_LANES} ranges of ports are in use: play fewer rounds at once")


def main(folder: Path) -> None:
    plan = Plan.loads(Path(f"{folder}.plan.json").read_text())
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    with ports_of_its_own():
        play(plan, folder)
    judge(folder, time.monotonic() - began)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
