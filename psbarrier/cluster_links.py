"""The links of a cluster of etcds: between each two members, and from its clients to each member.

How a connection between two members is told apart. Every member must know another by the same peer URL, so the URL
cannot tell who calls, and etcd cannot be given an address to call from. But like any Go program it reaches https:// URLs
through the HTTP proxy that its environment names. So each member has a proxy of its own, and peer URLs that exist
nowhere (192.0.2.0/24 is set aside for documentation; for loopback addresses Go would pass the proxy by): the proxy that
is asked tells the caller, the CONNECT request tells the callee. That holds for every connection: raft's, and those over
which a follower hands keep-alives to its leader. TLS, with certificates that etcd makes by itself, is what makes Go ask
with CONNECT, on one connection for each callee.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from functools import partial
from itertools import combinations
from typing import Any

from psbarrier.errors import ClosedError, InvalidArgumentError
from psbarrier.link import Link
from psbarrier.link_proxy import LinkProxy


class ClusterLinks:
    """The links of `count` members; `client_port(i)` and `peer_port(i)` tell where member i listens.

    A fault ends with `heal()`; a cut link breaks its connections and each new one, a silent one holds every byte back.
    """

    def __init__(self, count: int, client_port: Callable[[int], int], peer_port: Callable[[int], int]) -> None:
        self.hosts = tuple(f"192.0.2.{index + 1}:2380" for index in range(count))
        self._members = frozenset(range(count))
        self._client_port, self._peer_port = client_port, peer_port
        self._between = {frozenset(pair): Link() for pair in combinations(range(count), 2)}
        self._clients = [Link() for _ in range(count)]
        self._proxy: LinkProxy | None = None
        self._fronts: list[str] = []
        self._proxies: list[str] = []

    def open(self) -> None:
        """Listen; nothing if it does already."""
        if self._proxy is not None:
            return
        self._proxy = LinkProxy()
        for index, link in enumerate(self._clients):
            port = self._proxy.forward(link, partial(self._client_port, index))
            self._fronts.append(f"127.0.0.1:{port}")
            self._proxies.append(f"127.0.0.1:{self._proxy.tunnel(self._routes(index))}")

    def front(self, index: int) -> str:
        """Where clients find the member."""
        return self._opened(self._fronts)[index]

    def proxy(self, index: int) -> str:
        """The HTTP proxy of the member."""
        return self._opened(self._proxies)[index]

    def partition(self, *groups: Collection[int], silent: bool) -> None:
        """Members of different groups lose each other; those that no group names are one more group."""
        side = self._sides(groups)
        for pair, link in self._between.items():
            one, other = pair
            self._fail(link, side[one] != side[other], silent)

    def isolate(self, index: int, *, silent: bool) -> None:
        """The member's clients lose it."""
        self._check({index})
        self._fail(self._clients[index], True, silent)

    def slow(self, seconds: float, one: Collection[int], other: Collection[int]) -> None:
        """What a member of `one` and a member of `other` tell each other arrives so much later."""
        self._check({*one, *other})
        delay = _delay(seconds)
        for pair, link in self._between.items():
            if any(pair == {a, b} for a in one for b in other):
                self._run(link.slow(delay))

    def slow_clients(self, seconds: float, index: int) -> None:
        """What the member and its clients tell each other arrives so much later."""
        self._check({index})
        self._run(self._clients[index].slow(_delay(seconds)))

    def heal(self) -> None:
        """End every fault."""
        for link in (*self._between.values(), *self._clients):
            self._run(link.slow(0.0))
            self._run(link.join())

    def close(self) -> None:
        """End every connection and the thread. Idempotent."""
        if self._proxy is not None:
            self._proxy.close()

    def _routes(self, caller: int) -> dict[str, tuple[Link, Callable[[], int]]]:
        # A member that waited for a leader and became it itself hands keep-alives to its own peer URL.
        own = Link()
        return {
            self.hosts[callee]: (self._between.get(frozenset({caller, callee}), own), partial(self._peer_port, callee))
            for callee in self._members
        }

    def _fail(self, link: Link, broken: bool, silent: bool) -> None:
        self._run(link.join() if not broken else link.mute() if silent else link.cut())

    def _sides(self, groups: tuple[Collection[int], ...]) -> dict[int, int]:
        named = [index for group in groups for index in group]
        self._check(named)
        if len(named) != len(set(named)):
            raise InvalidArgumentError(f"A member can be on one side of a partition only: {groups}.")
        rest = self._members - set(named)
        return {index: side for side, group in enumerate((*groups, rest)) for index in group}

    def _check(self, indexes: Collection[int]) -> None:
        unknown = sorted(set(indexes) - self._members)
        if unknown:
            raise InvalidArgumentError(
                f"There is no member {unknown[0]}: this cluster has {len(self._members)}, from 0 on."
            )

    def _run(self, action: Coroutine[Any, Any, None]) -> None:
        if self._proxy is None:
            action.close()
            raise _closed()
        self._proxy.do(action)

    def _opened(self, addresses: list[str]) -> list[str]:
        if not addresses:
            raise _closed()
        return addresses


def _closed() -> ClosedError:
    return ClosedError("This cluster was not started yet, so it has no addresses and no links; call start() first.")


def _delay(seconds: float) -> float:
    if not 0 <= seconds < float("inf"):
        raise InvalidArgumentError(f"A delay is a number of seconds, 0 or more, not {seconds!r}.")
    return seconds
