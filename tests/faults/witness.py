"""Witness: every change that etcd ever made, heard from each etcd on a path that no fault concerns.

It is a client of its own, over etcd's JSON gateway, so that a mistake in the client under test cannot blind it. It hears
the same change from each etcd, and notes when it heard it first.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

from faults.gateway import EVERYTHING, Gateway, text_of
from faults.recording import Journal, now

_SILENCE = 1.0
"""Seconds without a word after which the watch is opened again: the etcd may have been killed or frozen."""
_PAUSE = 0.1


class Witness:
    """Writes one line for each revision into `path`, not in their order."""

    def __init__(self, path: Path, gateway: Gateway) -> None:
        self._journal = Journal(path)
        self._gateway = gateway
        self._lock = threading.Lock()
        self._heard: set[int] = set()
        self._complete = 1
        self.ended: float | None = None
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, args=(address,), name=f"witness-{address}", daemon=True)
            for address in gateway.addresses
        ]
        for thread in self._threads:
            thread.start()

    @property
    def complete(self) -> int:
        """The revision up to which every change is known."""
        return self._complete

    def close(self, timeout: float = 20.0) -> bool:
        """Stop once everything up to now is known; whether it is."""
        until = time.monotonic() + timeout
        while (last := self._gateway.revision()) is None and time.monotonic() < until:
            time.sleep(_PAUSE)
        while last is not None and self._complete < last and time.monotonic() < until:
            time.sleep(_PAUSE)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return last is not None and self._complete >= last

    def _listen(self, address: str) -> None:
        seen = 1
        while not self._stop.is_set():
            connection = http.client.HTTPConnection(address, timeout=_SILENCE)
            try:
                request = {**EVERYTHING, "start_revision": str(seen + 1)}
                connection.request("POST", "/v3/watch", json.dumps({"create_request": request}))
                seen = self._read(connection.getresponse(), seen)
            except (OSError, http.client.HTTPException, ValueError):
                self._stop.wait(_PAUSE)  # it does not run, or has nothing to say
            finally:
                connection.close()

    def _read(self, answer: http.client.HTTPResponse, seen: int) -> int:
        with contextlib.suppress(TimeoutError):
            while not self._stop.is_set() and (line := answer.readline()):
                said = json.loads(line).get("result")
                if said is None:  # an etcd that ends says so
                    return seen
                if said.get("canceled"):
                    return max(seen, int(said.get("compact_revision", 1)) - 1)
                events = said.get("events", [])
                if events:
                    seen = self._hear(events)
        return seen

    def _hear(self, events: list[dict[str, Any]]) -> int:
        at, revisions = now(), dict[int, list[dict[str, Any]]]()
        for event in events:
            kv = event["kv"]
            revisions.setdefault(int(kv["mod_revision"]), []).append(
                {
                    "key": text_of(kv["key"]),
                    "deleted": event.get("type") == "DELETE",
                    "value": text_of(kv.get("value", "")),
                    "create": int(kv.get("create_revision", 0)),
                    "version": int(kv.get("version", 0)),
                    "lease": int(kv.get("lease", 0)),
                }
            )
        with self._lock:
            for revision, changes in revisions.items():
                if revision not in self._heard:
                    self._heard.add(revision)
                    self._journal.write(what="revision", revision=revision, at=at, changes=changes)
                    self._look_for_end(changes, at)
            while self._complete + 1 in self._heard:
                self._complete += 1
        return max(revisions)

    def _look_for_end(self, changes: list[dict[str, Any]], at: float) -> None:
        """Whether the job is over; one that nobody held any more, and that its successor closed, is not."""
        for change in changes:
            if (
                change["key"].endswith("/control/state")
                and not change["deleted"]
                and '"by":"nobody"' not in change["value"]
            ):
                self.ended = self.ended or at
