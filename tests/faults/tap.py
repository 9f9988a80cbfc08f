"""Tap: which process wrote which revision of etcd, with what authority, and which leases it revoked."""

from __future__ import annotations

from typing import Any

from faults.recording import Journal, now
from psbarrier.store.base import Delete, Put, Txn, TxnReply
from psbarrier.store.etcd import EtcdStore


def tap(journal: Journal) -> None:
    """From now on every transaction of this process that changed something, and every revocation, is recorded."""
    txn, revoke = EtcdStore.txn, EtcdStore.revoke
    authority: list[dict[str, Any]] = [{}]

    def tapped(self: EtcdStore, wanted: Txn, *, until: float) -> TxnReply:
        authority[0] = _authority(wanted) or authority[0]
        begin = now()
        reply = txn(self, wanted, until=until)
        keys = _written(wanted, reply)
        if keys:
            journal.write(what="txn", revision=reply.revision, begin=begin, end=now(), keys=keys, **authority[0])
        return reply

    def revoked(self: EtcdStore, lease: int, *, until: float) -> None:
        journal.write(what="revoke", lease=lease, at=now())
        revoke(self, lease, until=until)

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
        elif isinstance(op, Put) or (isinstance(op, Delete) and getattr(result, "deleted", 0)):
            keys.append(op.key)
    return keys
