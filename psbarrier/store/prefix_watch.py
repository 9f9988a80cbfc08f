"""What whoever watches a prefix holds in his hands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec

from psbarrier.errors import PsBarrierError
from psbarrier.store.base import Sink

P = ParamSpec("P")


class PrefixWatch:
    """One open watch (psbarrier.store.base.Watch)."""

    def __init__(
        self, prefix: str, sink: Sink, drop: Callable[[PrefixWatch], None], answered: threading.Condition
    ) -> None:
        self.prefix = prefix
        self.sink = sink
        self.revision = 0
        self.seen = 0  # the last revision that the sink knows all about
        self.cluster = 0
        self.confirmed = False
        self.gap = False
        self.error: PsBarrierError | None = None
        self.stopped = False
        self.answered = answered  # where its opener, and nobody else, waits for etcd's confirmation
        self.calling = threading.RLock()  # held during each call of the sink, so that stop() can wait for its end
        self._drop = drop

    def stop(self) -> None:
        """No call to the sink begins after this returns, except from the thread that it is called on. Idempotent.

        Waits for a call that is under way on another thread: do not hold a lock that the sink needs.
        """
        with self.calling:
            self.stopped = True
        self._drop(self)

    def deliver(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> Exception | None:
        """Make one call of the sink unless the watch is stopped; what it raised."""
        with self.calling:
            if not self.stopped:
                try:
                    call(*args, **kwargs)
                except Exception as error:  # noqa: BLE001 (handed back: to be logged, and told to the sink)
                    return error
        return None

    def __repr__(self) -> str:
        state = "stopped" if self.stopped else f"at {self.seen}" if self.confirmed else "not confirmed"
        return f"<PrefixWatch {self.prefix!r} {state}>"
