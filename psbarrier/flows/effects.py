"""What a flow may ask of whoever drives it.

A flow is a generator: it decides, yields one of these effects, and is sent the answer. It does no IO, reads no clock but
the one it is handed, and knows no thread, so the same code runs under a blocking call, under the background runner, and
under an explorer that interleaves hundreds of processes in one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

from attrs import frozen

from psbarrier.errors import LeaseNotFoundError, StoreUnavailableError
from psbarrier.protocol.standing import Standing
from psbarrier.protocol.views import View
from psbarrier.store.base import Txn, TxnReply

R = TypeVar("R")


@frozen
class Apply:
    """Decide a transaction once, by `until` at the latest, and fold its reply into the session's views.

    Answers with the TxnReply. Throws StoreUnavailableError (it may have been applied), StoreRefusedError, or
    LeaseNotFoundError.
    """

    txn: Txn
    until: float


@frozen
class Await:
    """Wait until `check()`, which is called with the session's lock held, returns something that is not None.

    Answers with that, or with None at `until` (None: no limit). Throws SlotLostError once the session has lost its
    task, and ClosedError once it is closed.
    """

    check: Callable[[], Any]
    until: float | None


@frozen
class Change:
    """Wait until something below `prefix` (or the key itself) changed after `revision`; answers at `until` at the latest.

    May answer early; the caller looks again in any case.
    """

    prefix: str
    revision: int
    until: float


@frozen
class Pause:
    """Wait a little, with jitter, before try number `attempt` (from 1), and never beyond `until`."""

    attempt: int
    until: float


@frozen
class Grant:
    """A new lease: the session's own (`member`), kept alive from now on, or one for the run. Answers with its id."""

    ttl: int
    member: bool
    until: float


@frozen
class Revoke:
    """End a lease, and stop keeping it."""

    lease: int
    until: float


@frozen
class Keep:
    """Keep the run's lease alive, or no longer (`lease` 0)."""

    lease: int
    interval: float


@frozen
class Follow:
    """Fold every change below the view's prefix into it from now on; answers once etcd has confirmed the watch."""

    view: View
    until: float


@frozen
class Unfollow:
    """Stop following a view."""

    view: View


@frozen
class Silence:
    """Stop keeping the member's own lease alive: this process cannot do its duty, so another must be able to."""


@frozen
class Trouble:
    """Tell the operator, as a warning, of something that no caller is waiting for."""

    message: str


@frozen
class Tell:
    """Say what is being waited for."""

    progress: Progress


@frozen
class Progress:
    """A wait that takes long: `there` of `of` are there, `missing` maps the others (the first few) to why they are not.

    `waited` and `left` are seconds; `left` is None for a wait without a deadline. `expected`: nothing is wrong with it.
    """

    what: str
    there: int
    of: int
    missing: dict[str, str]
    waited: float
    left: float | None
    expected: bool = False

    def __str__(self) -> str:
        left = "without a deadline" if self.left is None else f"for at most {self.left:.0f} s more"
        line = f"{self.what}: {self.there} of {self.of} after {self.waited:.0f} s, waiting {left}"
        return f"{line}; missing: {describe_missing(self.missing, self.of - self.there)}" if self.missing else line


Effect: TypeAlias = (
    Apply | Await | Change | Pause | Grant | Revoke | Keep | Follow | Unfollow | Silence | Tell | Trouble
)
Flow: TypeAlias = Generator[Effect, Any, R]

SHOWN = 10


def describe_missing(missing: dict[str, str], count: int | None = None) -> str:
    """The missing tasks and why, for one line: at most ten by name, the rest as a number."""
    count = max(len(missing), count or 0)
    named = [f"{task} ({why})" if why else task for task, why in list(missing.items())[:SHOWN]]
    if count > len(named):
        named.append(f"and {count - len(named)} more")
    return ", ".join(named)


def settle(txn: Txn, clock: Callable[[], float], until: float, me: Standing | None = None) -> Flow[TxnReply]:
    """Repeat a transaction that is harmless to repeat until its outcome is known, or `until` has passed.

    Raises the last StoreUnavailableError then. Whoever calls this has the reason in the transaction's docstring. For
    `me`, who has joined, "lease not found", which does not say which lease, becomes the error that it means.
    """
    attempt = 0
    while True:
        try:
            reply: TxnReply = yield Apply(txn, until)
            return reply
        except (StoreUnavailableError, LeaseNotFoundError) as error:
            if isinstance(error, LeaseNotFoundError):
                if me is None:
                    raise
                yield from confirm(me, clock, until)
            attempt += 1
            if clock() >= until:
                raise
            yield Pause(attempt, until)


def decide(me: Standing, txn: Txn, clock: Callable[[], float], until: float) -> Flow[TxnReply]:
    """`settle` for one who has joined; raises RunGoneError or SlotLostError too, when the witnesses say so."""
    return settle(txn, clock, until, me)


def confirm(me: Standing, clock: Callable[[], float], until: float) -> Flow[None]:
    """Ask etcd whether this member still holds its task; raises SlotLostError or RunGoneError if not."""
    reply = yield from settle(Txn(then=me.witnesses), clock, until)
    require_held(me, reply, 0)


def require_held(me: Standing, reply: TxnReply, at: int) -> None:
    """Raises if the witnesses, which stand in `reply` from `at` on, say that the task is lost."""
    lost = me.lost(reply.one(at), reply.one(at + 1))
    if lost is not None:
        raise lost
