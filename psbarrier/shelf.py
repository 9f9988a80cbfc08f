"""Shelf: the sealed specs that a process has read, for all its members on one store.

A spec of ten thousand members is 260 KB, and a third of a second's work to decode. A process that simulates a thousand
of them would do that a thousand times at the same moment. A spec is known by its SHA-256, which each member is told by
the seal, so whichever member has read it, it is the same.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, ClassVar

from psbarrier.flows.gate import READING
from psbarrier.spec import ClusterSpec
from psbarrier.store.base import Store

if TYPE_CHECKING:
    from collections.abc import MutableMapping


class _Specs:
    """What is shared; `lock` guards it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # As long as some member holds one, and no longer.
        self.known: MutableMapping[str, ClusterSpec] = weakref.WeakValueDictionary()
        self.read_since: dict[str, float] = {}
        self.waiting: dict[str, list[threading.Condition]] = {}


class Shelf:
    """One session's way to the specs of its store; `condition` is the session's."""

    _all: ClassVar[MutableMapping[Store, _Specs]] = weakref.WeakKeyDictionary()
    _all_lock = threading.Lock()

    def __init__(self, store: Store, condition: threading.Condition) -> None:
        with self._all_lock:
            self._specs = self._all.setdefault(store, _Specs())
        self._clock, self._condition = store.clock, condition

    def get(self, sha256: str) -> ClusterSpec | None:
        """The spec, if a member has read it. Takes no lock but the shelf's, so the session's may be held."""
        with self._specs.lock:
            return self._specs.known.get(sha256)

    def turn(self, sha256: str) -> bool:
        """Whether the caller is to read the spec; if not, its session is woken once it is there."""
        now = self._clock.now()
        with self._specs.lock:
            if now < self._specs.read_since.get(sha256, -READING) + READING:
                self._specs.waiting.setdefault(sha256, []).append(self._condition)
                return False
            self._specs.read_since[sha256] = now
            return True

    def put(self, sha256: str, spec: ClusterSpec) -> None:
        """A member has read it. No session's condition may be held."""
        with self._specs.lock:
            self._specs.known[sha256] = spec
            self._specs.read_since.pop(sha256, None)
            waiting = self._specs.waiting.pop(sha256, [])
        for condition in waiting:
            with condition:
                condition.notify_all()


def _forked() -> None:
    """In a forked child: another thread may have held the lock in that moment."""
    Shelf._all_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
