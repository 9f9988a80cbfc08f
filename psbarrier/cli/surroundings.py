"""Surroundings: what all launches of one command share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attrs import frozen

from psbarrier.cli.screen import Screen
from psbarrier.cli.workspace import Workspace
from psbarrier.spec import Task
from psbarrier.store.base import Store


class Streams(Protocol):
    """Where a child reads and writes."""

    def open(self, task: Task) -> tuple[int, int, int]:
        """File descriptors for standard input, output and error, to be closed by the caller."""


@frozen
class Surroundings:
    """What the launches of one command share. `etcd` are the variables that lead a child to the same etcd.

    `outlived`: a child that uses its task itself goes on should this process be killed, for etcd does not die with us.
    """

    store: Store
    etcd: Mapping[str, str]
    workspace: Workspace
    screen: Screen
    streams: Streams | None = None
    outlived: bool = False
