"""Tap: which process wrote which revision of etcd, with what authority; which leases it was told live, and revoked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faults.recording import Journal, now
from psbarrier.store.base import Delete, DeleteResult, Put, Txn, TxnReply
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.keepalive import LeaseKeeping


def tap(journal: Journal) -> None:
    """From now on every transaction of this process that changed something, every revocation and every confirmed beat is
    recorded."""
    decide, revoke, grant, keep = EtcdStore.txn, EtcdStore.revoke, EtcdStore.grant, EtcdStore.keep
    authority: list[dict[str, Any]] = [{}]

    def tapped(self: EtcdStore, txn: Txn, *, until: float) -> TxnReply:
        authority[0] = _authority(txn) or authority[0]
        begin = now()
        reply = decide(self, txn, until=until)
        keys = _written(txn, reply)
        if keys:
            journal.write(what="txn", revision=reply.revision, begin=begin, end=now(), keys=keys, **authority[0])
        return reply

    def revoked(self: EtcdStore, lease: int, *, until: float) -> None:
        journal.write(what="revoke", lease=lease, at=now())
        revoke(self, lease, until=until)

    def granted(self: EtcdStore, ttl: int, *, until: float) -> int:
        sent = now()
        lease = grant(self, ttl, until=until)
        journal.write(what="beat", lease=lease, sent=sent, ttl=ttl, at=now())
        return lease

    def kept(
        self: EtcdStore, lease: int, *, interval: float, on_beat: Callable[[float, int], None], first: float = 0.0
    ) -> LeaseKeeping:
        def beaten(sent: float, ttl: int) -> None:
            journal.write(what="beat", lease=lease, sent=sent, ttl=ttl, at=now())
            on_beat(sent, ttl)

        return keep(self, lease, interval=interval, on_beat=beaten, first=first)

    EtcdStore.grant = granted  # type: ignore[method-assign]
    EtcdStore.keep = kept  # type: ignore[method-assign]
    EtcdStore.txn = tapped  # type: ignore[method-assign]
    EtcdStore.revoke = revoked  # type: ignore[method-assign]


def _authority(txn: Txn) -> dict[str, Any]:
    """As whom a member acts, which every guarded transaction says."""
    creates = {c.key: c.value for c in txn.compares if c.target == "create" and c.op == "==" and c.value and not c.end}
    members = [key for key in creates if "/members/" in key]
    configs = [key for key in creates if key.endswith("/config")]
    if len(members) != 1 or len(configs) != 1:
        return {}
    (member,), (config,) = members, configs
    return {"member": member, "token": creates[member], "config": config, "config_create": creates[config]}


def _written(txn: Txn, reply: TxnReply) -> list[str]:
    keys: list[str] = []
    for op, result in zip(txn.then if reply.succeeded else txn.otherwise, reply.results, strict=True):
        if isinstance(op, Txn) and isinstance(result, TxnReply):
            keys += _written(op, result)
        elif isinstance(op, Put) or (isinstance(op, Delete) and isinstance(result, DeleteResult) and result.deleted):
            keys.append(op.key)
    return keys
