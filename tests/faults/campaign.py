"""Campaign: many rounds, several side by side, each in a process of its own.

A round that has its verdict is not played again; a history that was kept is judged again.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

from faults.crew import environment
from faults.plan import Plan
from faults.play import judge
from psbarrier.etcd_binary import etcd_version, find_etcd

Verdict = dict[str, Any]
_LONGEST = 240.0
"""Seconds after which a round itself must have gone wrong."""

_SHOWN = 4_000
"""Characters of a violation that are shown, stacks of a process that hangs included; the verdict has all."""


class Campaign:
    """Plays plans into `out`; `tell` gets one line for each."""

    def __init__(self, out: Path, parallel: int, tell: Callable[[str], None]) -> None:
        self.out, self.parallel, self.tell = out.absolute(), parallel, tell
        out.mkdir(parents=True, exist_ok=True)

    def play(self, plans: Iterable[Plan]) -> Iterator[Verdict]:
        """The verdict of each plan, in the order in which they end."""
        with ThreadPoolExecutor(self.parallel) as pool:
            for done in as_completed([pool.submit(self._play, plan) for plan in plans]):
                said = done.result()
                self.tell(line(said))
                yield said

    def _play(self, plan: Plan) -> Verdict:
        folder = self.out / f"{plan.flaw.replace(' ', '-') or f'seed-{plan.seed}'}-{plan.round:04}"
        path = Path(f"{folder}.json")
        if not path.exists():
            Path(f"{folder}.plan.json").write_text(plan.dumps())
            command = [sys.executable, "-m", "faults.play", str(folder)]
            with open(f"{folder}.log", "wb") as log:
                try:
                    subprocess.run(
                        command,
                        env=environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        timeout=_LONGEST,
                        check=True,
                    )
                except subprocess.SubprocessError as error:
                    return self._failed(plan, f"{error}; see {folder}.log")
            Path(f"{folder}.log").unlink()
            Path(f"{folder}.plan.json").unlink()
        elif folder.exists():  # the checker may have learnt something since
            judge(folder, json.loads(path.read_text())["seconds"])
        said: Verdict = json.loads(path.read_text())
        return said

    def _failed(self, plan: Plan, why: str) -> Verdict:
        """The campaign itself has a fault; the round may be played again."""
        empty = dict.fromkeys(("seconds", "calls", "revisions", "processes", "late"), 0)
        who = {"seed": plan.seed, "round": plan.round, "theme": plan.theme, "flaw": plan.flaw}
        return {**who, **empty, "faults": {}, "void": "", "violations": [["campaign", why]]}


def line(said: Verdict) -> str:
    """One round, for people."""
    faults = ", ".join(f"{count} {kind}" for kind, count in said["faults"].items()) or "no fault"
    text = f"round {said['round']:4} {said['theme']:6} {said['seconds']:5.1f} s {said['calls']:5} calls; {faults}"
    if said["void"]:
        text += f"\n    VOID: {said['void']}"
    for promise in dict.fromkeys(promise for promise, _ in said["violations"]):
        found = [why for name, why in said["violations"] if name == promise]
        text += f"\n    VIOLATED {promise}, {len(found)} times: {found[0][:_SHOWN]}"
    if said["violations"] and not said["flaw"]:
        text += f"\n    again: python -m faults --seed {said['seed']} --only {said['round']} --out ANOTHER"
    return text


def versions() -> str:
    """What was run, and when."""
    etcd = ".".join(map(str, etcd_version(find_etcd())))
    names = ("psbarrier", "etcd3", "grpcio", "protobuf")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}: Python {platform.python_version()}, {libraries}, etcd {etcd}, on {os.cpu_count()} cores."


def summary(verdicts: list[Verdict]) -> str:
    """All rounds together, as Markdown."""
    faults: Counter[str] = Counter()
    for said in verdicts:
        faults.update(said["faults"])
    broken: Counter[str] = Counter(promise for said in verdicts for promise in {v[0] for v in said["violations"]})
    rows = [
        ("rounds", len(verdicts)),
        ("processes", sum(said["processes"] for said in verdicts)),
        ("calls", sum(said["calls"] for said in verdicts)),
        ("revisions of etcd", sum(said["revisions"] for said in verdicts)),
        ("faults", faults.total()),
        *sorted(faults.items()),
        ("rounds in which etcd itself failed", sum(bool(said["void"]) for said in verdicts)),
        ("rounds with a violation", sum(bool(said["violations"]) for said in verdicts)),
        *sorted((f"violated: {promise}", count) for promise, count in broken.items()),
    ]
    table = "\n".join(f"| {what} | {count:,} |" for what, count in rows)
    return f"| what | how many |\n|---|---|\n{table}"
