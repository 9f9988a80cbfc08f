"""One store, twice: every test that takes `store` runs over MemoryStore and over EtcdStore on a real etcd."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from psbarrier.store.base import Store
from psbarrier.store.memory import MemoryStore
from store.helpers import etcd_store


@pytest.fixture(params=["memory", "etcd"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A Store; the etcd behind it is shared, so keys belong below `prefix`."""
    made = MemoryStore() if request.param == "memory" else etcd_store(request.getfixturevalue("etcd").endpoint)
    yield made
    made.close()


@pytest.fixture
def prefix() -> str:
    """A key prefix that is this test's own."""
    return f"/contract/{uuid.uuid4().hex}/"


@pytest.fixture
def memory() -> Iterator[MemoryStore]:
    """A fresh MemoryStore."""
    with MemoryStore() as made:
        yield made
