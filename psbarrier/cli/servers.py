"""The etcd servers, as psbarrier status --server shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import asdict
from rich.table import Table
from rich.text import Text

from psbarrier.cli import tables
from psbarrier.doctor.connector import Server
from psbarrier.store.maintenance import ServerStatus


def as_json(servers: Iterable[Server]) -> list[dict[str, Any]]:
    """One object for each endpoint; ids as hexadecimal text, as etcdctl shows them, for JSON has no 64-bit numbers."""
    return [_as_json(server) for server in servers]


def _as_json(server: Server) -> dict[str, Any]:
    if server.status is None:
        return {"endpoint": server.endpoint, "problem": server.problem}
    fields = asdict(server.status)
    return fields | {name: f"{fields[name]:x}" for name in ("cluster", "member", "leader")}


def view(servers: Iterable[Server]) -> Table:
    """One line for each endpoint, for people."""
    table = tables.table("ENDPOINT", "ETCD", "ROLE", "DATABASE", "ALARMS", "CLUSTER")
    for server in servers:
        if server.status is None:
            table.add_row(Text(server.endpoint), Text("-"), Text(server.problem, style="red"))
            continue
        now = server.status
        alarms = ", ".join(now.alarms)
        row = (now.version, role(now), database(now), alarms or "none", f"{now.cluster:x}")
        styles = ("", "" if now.leader else "red", "", "red" if alarms else "", "")
        table.add_row(Text(server.endpoint), *(Text(cell, style) for cell, style in zip(row, styles, strict=True)))
    return table


def role(now: ServerStatus) -> str:
    """What the member is to its cluster."""
    if not now.leader:
        return "has no leader"
    return "leader" if now.leader == now.member else "learner" if now.learner else "follower"


def database(now: ServerStatus) -> str:
    """How large its database is, and may become."""
    quota = f" of {tables.size(now.quota)}" if now.quota else ""
    return f"{tables.size(now.size)}{quota}, {tables.size(now.in_use)} in use"
