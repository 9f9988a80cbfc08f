"""Calls: the lines that the members' processes write, read while they are being written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from faults.plan import Cue


class CallFiles:
    """All files of calls in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._slots: dict[Path, str] = {}
        self._pids: dict[tuple[str, int, str], int] = {}
        self._begun: Counter[tuple[str, str]] = Counter()
        self._cued: dict[Cue, float] = {}
        self.leases: dict[str, int] = {}
        self.total = 0

    def look(self, cues: list[Cue]) -> None:
        """Read what is new."""
        for path in self._folder.glob("calls-*.jsonl"):
            with open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                self._take(path, json.loads(line), cues)

    def _take(self, path: Path, said: dict[str, Any], cues: list[Cue]) -> None:
        if said["what"] == "process":
            self._slots[path] = said["slot"]
            self._pids[said["slot"], said["serial"], said["manner"]] = said["pid"]
        elif said["what"] == "standing":
            self.leases[self._slots[path]] = said["lease"]
        elif said["what"] == "call":
            self.total += 1
            key = self._slots[path], said["name"]
            self._begun[key] += 1
            for cue in cues:
                if (cue.slot, cue.name) == key and cue.count == self._begun[key]:
                    self._cued[cue] = said["begin"]

    def cued(self, cue: Cue) -> float | None:
        """When it happened."""
        return self._cued.get(cue)

    def pid(self, slot: str, serial: int, manner: str) -> int | None:
        return self._pids.get((slot, serial, manner))

    @property
    def pids(self) -> list[int]:
        """Every process that ever wrote."""
        return list(self._pids.values())
