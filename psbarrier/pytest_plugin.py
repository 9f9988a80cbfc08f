"""The pytest plugin: two fixtures. Nothing that they need is imported before one of them is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from psbarrier.embedded import EtcdServer
    from psbarrier.store.memory import MemoryStore


@pytest.fixture(scope="session")
def psbarrier_etcd() -> Iterator[EtcdServer]:
    """A real etcd for the whole session: `psbarrier_etcd.endpoint`. Use a job name of its own in each test.

    An error, not a skip, when this machine has no etcd: EtcdNotFoundError says where it was looked for.
    """
    from psbarrier.embedded import EtcdServer

    with EtcdServer() as server:
        yield server


@pytest.fixture
def psbarrier_store() -> Iterator[MemoryStore]:
    """A new MemoryStore: etcd's semantics without an etcd, and a clock that moves by `advance()` only."""
    from psbarrier.store.memory import MemoryStore

    with MemoryStore() as store:
        yield store
