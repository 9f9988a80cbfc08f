"""Unary calls: sent in the caller's thread, to one endpoint after the other, until answered or out of time."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import grpc

from psbarrier.errors import ClosedError, StoreUnavailableError
from psbarrier.store.backoff import Backoff
from psbarrier.store.base import Clock
from psbarrier.store.channels import Channels, Link, LinkError
from psbarrier.store.failures import Failure, Kind, explain
from psbarrier.store.login import Login, Pass

_Method = Callable[[Link], Callable[..., Any]]
_Answered = Callable[[Link, Pass, Any], None]

# So often may one call log in again; a token that dies faster than it is issued is refused, not chased.
_LOGINS = 3

# So many calls are under way at once; more wait for their turn. gRPC polls the connection from each thread that waits for
# an answer: with a thousand of them in one process that takes all of its time, and no answer comes within a timeout.
_AT_ONCE = 16


class Calls:
    """Sends requests over `channels`; each attempt may take `timeout` seconds. `answered` hears of every answer."""

    def __init__(
        self, channels: Channels, login: Login, clock: Clock, timeout: float, answered: _Answered | None = None
    ) -> None:
        self._channels = channels
        self._login = login
        self._clock = clock
        self._timeout = timeout
        self._answered = answered
        # Not a semaphore: that is Python code, and each request passes here.
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_AT_ONCE):
            self._turns.put(None)

    def send(self, method: _Method, request: Any, *, until: float, repeat: bool, accept: Kind | None = None) -> Any:
        """The response; None when etcd's refusal is of the kind to `accept`.

        What certainly was not applied is sent again until `until`; what may have been, only if `repeat` says that a
        second time does no harm. Raises StoreUnavailableError, StoreRefusedError, LeaseNotFoundError, ClosedError.
        """
        ordeal: _Ordeal | None = None
        started = self._clock.now()
        budget = min(self._timeout, until - started)
        while budget > 0:
            endpoint, outcome = self._attempt(method, request, budget, until)
            if not isinstance(outcome, Failure):
                return outcome
            if outcome.kind is accept:
                return None
            ordeal = ordeal or _Ordeal(self._channels, self._clock, started)
            ordeal.endure(endpoint, outcome, until=until, repeat=repeat)
            budget = min(self._timeout, until - self._clock.now())
        ordeal = ordeal or _Ordeal(self._channels, self._clock, started)
        raise ordeal.out_of_time() from ordeal.cause

    def _attempt(self, method: _Method, request: Any, budget: float, until: float) -> tuple[str, Any]:
        try:
            link = self._channels.acquire()
        except LinkError as error:
            return error.endpoint, Failure(Kind.UNSENT, error.reason, cause=error)
        sent = turn = False
        try:
            shown = self._login.show(link, budget)
            turn = self._take_turn(until)
            # A login, or the wait for a turn, may have taken most of it.
            budget = min(budget, until - self._clock.now())
            if budget <= 0 or not turn:
                raise LinkError(link.endpoint, "no time was left to ask", timed_out=True)
            sent = True
            answer = method(link)(request, timeout=budget, metadata=shown.metadata)
            link.answered, link.heard = True, self._clock.now()
            if self._answered is not None:
                self._answered(link, shown, answer)
            return link.endpoint, answer
        except grpc.RpcError as error:
            failure = explain(error, budget)
            if not sent:
                failure = failure.unsent()
        except LinkError as error:
            failure = Failure(Kind.UNSENT, error.reason, timed_out=error.timed_out, cause=error)
        except ValueError as error:  # gRPC's way of saying that the channel was closed meanwhile
            self._channels.check_usable()
            failure = Failure(Kind.UNSENT, "connection closed", cause=error)
        finally:
            if turn:
                self._turns.put(None)
            self._channels.release(link)
        if failure.kind is Kind.STALE_LOGIN:
            failure = self._renew(failure, shown if sent else None)
        elif self._condemns(failure, link, budget):
            self._channels.retire(link)
        return link.endpoint, failure

    def _take_turn(self, until: float) -> bool:
        """Whether it came in time; the caller puts it back."""
        try:
            self._turns.get(timeout=max(0.0, until - self._clock.now()))
        except queue.Empty:
            return False
        return True

    def _renew(self, failure: Failure, shown: Any) -> Failure:
        if not self._login.renewable:
            return Failure(
                Kind.REFUSED, failure.reason, "log in: give user and password", from_etcd=True, cause=failure.cause
            )
        if shown is not None:
            self._login.expire(shown)
        return failure

    def _condemns(self, failure: Failure, link: Link, budget: float) -> bool:
        """Whether others should leave this endpoint too. A call with little time of its own proves nothing; nor does one that
        was not answered where others have been since half of its time had passed."""
        if not failure.retryable or failure.kind is Kind.BUSY or isinstance(failure.cause, LinkError):
            return False
        if failure.timed_out and (budget < self._timeout or link.heard > self._clock.now() - budget / 2):
            return False
        return not failure.from_etcd or len(self._channels.addresses) > 1


class _Ordeal:
    """What one call has gone through, from its first failure on."""

    def __init__(self, channels: Channels, clock: Clock, started: float) -> None:
        self.cause: BaseException | None = None
        self._channels = channels
        self._clock = clock
        self._started = started
        self._reasons: dict[str, str] = {}
        self._ambiguous = False
        self._logins = 0
        self._backoff = Backoff(len(channels.addresses))

    def endure(self, endpoint: str, failure: Failure, *, until: float, repeat: bool) -> None:
        """Wait before the next attempt; raises when there should be none."""
        if self._channels.closed:
            raise ClosedError("This EtcdStore was closed while a request was under way.") from failure.cause
        self._logins += failure.kind is Kind.STALE_LOGIN
        if not failure.retryable:
            raise failure.error(endpoint) from failure.cause
        if not failure.timed_out or endpoint not in self._reasons:  # a hurried last attempt says less than the others
            self._reasons[endpoint] = failure.reason
        self.cause = failure.cause
        if failure.kind is Kind.BROKEN:
            self._ambiguous = True
            if not repeat:
                raise self._unavailable("did not confirm a transaction, which may or may not have been applied") from (
                    failure.cause
                )
        if self._logins > _LOGINS:
            raise self._unavailable("keeps forgetting our login") from failure.cause
        if failure.kind is not Kind.STALE_LOGIN or self._logins > 1:
            self._channels.pause(self._backoff.next(), until)

    def out_of_time(self) -> StoreUnavailableError:
        """The deadline has passed."""
        if not self._reasons:
            self._reasons[self._channels.endpoint] = "no time was left to ask"
        return self._unavailable("did not answer")

    def _unavailable(self, what: str) -> StoreUnavailableError:
        seconds = self._clock.now() - self._started
        applied = None if self._ambiguous else False
        return StoreUnavailableError.after(seconds, what, self._reasons, applied=applied)
