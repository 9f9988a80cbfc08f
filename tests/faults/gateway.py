"""Gateway: a client of etcd that shares nothing with the one under test: JSON over HTTP, on paths that no fault concerns."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
from collections.abc import Iterator, Sequence
from typing import Any

from faults.plan import JOB

_ANSWER = 3.0
"""Seconds that an etcd has to answer."""
EVERYTHING = {"key": base64.b64encode(b"/").decode(), "range_end": base64.b64encode(b"0").decode()}


class Gateway:
    """Asks whichever etcd answers; None, or nothing, when none does."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)

    def revoke(self, lease: int) -> bool:
        """End a lease; whether there was an etcd that could."""
        return self._ask("lease/revoke", ID=str(lease)) is not None

    def compact(self, revision: int) -> bool:
        """Let etcd forget what was before; whether there was an etcd that could."""
        return self._ask("kv/compaction", revision=str(revision), physical=True) is not None

    def revision(self) -> int | None:
        """etcd's revision now."""
        return self._revision()

    def revisions(self) -> list[int | None]:
        """Each etcd's own revision now, which it tells without asking the others; None of one that does not answer."""
        return [Gateway([address])._revision(serializable=True) for address in self.addresses]

    def _revision(self, *, serializable: bool = False) -> int | None:
        said = self._ask("kv/range", **EVERYTHING, count_only=True, serializable=serializable)
        return int(said["header"]["revision"]) if said is not None else None

    def kvs(self) -> list[dict[str, Any]] | None:
        """Every key that there is."""
        said = self._ask("kv/range", **EVERYTHING)
        return [{**kv, "key": text_of(kv["key"])} for kv in said.get("kvs", [])] if said is not None else None

    def run_leases(self) -> set[int]:
        """The leases of the runs that there are."""
        configs = (kv for kv in self.kvs() or [] if kv["key"].endswith("/config"))
        return {int(kv.get("lease", 0)) for kv in configs if f"/{JOB}/runs/" in kv["key"]}

    def leases(self) -> list[dict[str, int]]:
        """Every lease that lives, with the seconds that it was granted for, and those that it has left."""
        said = self._ask("lease/leases") or {}
        return list(self._living(said.get("leases", [])))

    def _living(self, leases: list[dict[str, str]]) -> Iterator[dict[str, int]]:
        for lease in leases:
            said = self._ask("lease/timetolive", ID=lease["ID"]) or {}
            if int(said.get("TTL", -1)) > 0:
                yield {"lease": int(lease["ID"]), "ttl": int(said["TTL"]), "granted": int(said["grantedTTL"])}

    def _ask(self, verb: str, **fields: str | bool) -> Any:
        for address in self.addresses:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                said = _ask(address, verb, fields)
                if "header" in said:
                    return said
        return None


def _ask(address: str, verb: str, fields: dict[str, str | bool]) -> Any:
    connection = http.client.HTTPConnection(address, timeout=_ANSWER)
    try:
        connection.request("POST", f"/v3/{verb}", json.dumps(fields))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def text_of(base: str) -> str:
    """Bytes as Latin-1, which holds every byte as one character: a long value is compressed."""
    return base64.b64decode(base).decode("latin-1")
