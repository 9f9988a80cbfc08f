"""Specs to emit."""

from __future__ import annotations

from psbarrier.spec import ClusterSpec


def spec_of(host: str = "{role}-{index}", /, **counts: int) -> ClusterSpec:
    """So many tasks of each role, each on a port of its own and on the host that the pattern gives."""
    addresses = {
        role: [f"{host.format(role=role, index=index)}:{2222 + index}" for index in range(count)]
        for role, count in counts.items()
    }
    return ClusterSpec.from_addresses(addresses, job="ctr")
