"""Watches: what a session follows, and how what it hears gets into its views."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from psbarrier.errors import ClosedError, PsBarrierError, StoreUnavailableError
from psbarrier.protocol.views import View
from psbarrier.store.base import KV, Event, Store, Txn, TxnReply, Watch

# The arguments of the sinks are named by the Store protocol, whether they are needed or not.
# ruff: noqa: ARG002


class Watches:
    """The views that are followed, and the places where a change is waited for.

    `condition` guards them and the views. With it held, `heard` is called when a view was folded, with whether its
    `changes` have grown, and `notify` when something else has changed; `lose` when a watch has ended for good: without it a
    member learns nothing any more, and to go on waiting would be to hang.
    """

    def __init__(
        self,
        store: Store,
        condition: threading.Condition,
        notify: Callable[[], None],
        heard: Callable[[bool], None],
        lose: Callable[[PsBarrierError], None],
    ) -> None:
        self.condition, self.notify, self.heard, self.lose = condition, notify, heard, lose
        self._store = store
        self._views: dict[View, Watch] = {}
        self._changes: dict[str, ChangeSink] = {}

    def fold_reply(self, txn: Txn, reply: TxnReply) -> None:
        """Everything that a reply says about the views that are followed; the condition is held."""
        for view in self._views:
            before = view.changes
            if view.fold_reply(txn, reply):
                self.heard(view.changes != before)

    def begin(self, view: View) -> bool:
        """Whether the view is to be followed from now on, and was not before.

        It counts as followed before its watch is open, so that no reply in between is missed either.
        """
        with self.condition:
            known = view in self._views
            self._views.setdefault(view, _NOT_YET)
        return not known

    def follow(self, view: View, until: float) -> None:
        """Open the watch of a view that has begun."""
        watch = self._store.watch(view.prefix, _ViewSink(self, view), until=until)
        with self.condition:
            wanted = view in self._views
            if wanted:
                self._views[view] = watch
        if not wanted:  # closed meanwhile
            watch.stop()

    def unfollow(self, view: View) -> None:
        """Stop the watch of a view, if it has one."""
        with self.condition:
            watch = self._views.pop(view, None)
        if watch is not None:
            watch.stop()

    def change(self, prefix: str, until: float) -> ChangeSink | None:
        """What remembers changes below `prefix`; None when it has just been opened, and something may have changed
        before it was."""
        known = self._changes.get(prefix)
        if known is None:
            sink = self._changes[prefix] = ChangeSink(self, prefix)
            sink.watch = self._store.watch(prefix, sink, until=until)
        return known

    def end_changes(self) -> None:
        """Stop the watches that `change` opened."""
        for sink in self._changes.values():
            if sink.watch is not None:
                sink.watch.stop()
        self._changes.clear()

    def close(self) -> None:
        """Stop every watch."""
        self.end_changes()
        for view in list(self._views):
            self.unfollow(view)


class _Opening:
    """Stands for a watch that is being opened."""

    revision = 0

    def stop(self) -> None:
        pass


_NOT_YET = _Opening()


class _ViewSink:
    """Folds what a watch delivers into a view."""

    def __init__(self, watches: Watches, view: View) -> None:
        self._watches, self._view = watches, view

    def events(self, events: Sequence[Event], revision: int) -> None:
        with self._watches.condition:
            before = self._view.changes
            self._view.fold_events(events)
            self._watches.heard(self._view.changes != before)

    def snapshot(self, kvs: Sequence[KV], revision: int) -> None:
        with self._watches.condition:
            before = self._view.changes
            self._view.fold_snapshot(kvs, revision)
            self._watches.heard(self._view.changes != before)

    def failed(self, error: PsBarrierError) -> None:
        if not isinstance(error, StoreUnavailableError | ClosedError):
            self._watches.lose(error)


class ChangeSink:
    """Remembers when something below a prefix changed last."""

    def __init__(self, watches: Watches, prefix: str) -> None:
        self._watches, self._prefix = watches, prefix
        self.revision = 0
        self.watch: Watch | None = None

    def events(self, events: Sequence[Event], revision: int) -> None:
        """Told by the watch; one on the key of worker/1 also sees worker/10."""
        if any(event.kv.key == self._prefix or self._prefix.endswith("/") for event in events):
            self._changed(revision)

    def snapshot(self, kvs: Sequence[KV], revision: int) -> None:
        """Told by the watch after a gap: anything may have changed in it."""
        self._changed(revision)

    def failed(self, error: PsBarrierError) -> None:
        """Told by the watch at its end."""
        self._watches.lose(error)

    def _changed(self, revision: int) -> None:
        with self._watches.condition:
            self.revision = max(self.revision, revision)
            self._watches.notify()
