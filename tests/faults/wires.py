"""Wires: the path from each task's processes to each etcd, which can be cut, silenced and slowed down by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from psbarrier.link import Link
from psbarrier.link_proxy import LinkProxy


class Wires:
    """`ports` tell where each etcd listens."""

    def __init__(self, slots: Iterable[str], ports: Sequence[Callable[[], int]]) -> None:
        self._proxy = LinkProxy()
        self._etcds = range(len(ports))
        self._links = {(slot, etcd): Link() for slot in slots for etcd in self._etcds}
        self._fronts = {
            (slot, etcd): f"127.0.0.1:{self._proxy.forward(link, ports[etcd])}"
            for (slot, etcd), link in self._links.items()
        }

    def endpoints(self, slot: str, first: int = 0) -> str:
        """What a process of `slot` takes for etcd's endpoints, beginning with one of them."""
        return ",".join(self._fronts[slot, (first + etcd) % len(self._etcds)] for etcd in self._etcds)

    def cut(self, slot: str, *, silent: bool) -> None:
        """The task's processes lose all of etcd; `silent`: connections stay, and carry nothing."""
        for etcd in self._etcds:
            self._break(self._links[slot, etcd], silent)

    def join(self, slot: str) -> None:
        """End that."""
        for etcd in self._etcds:
            self._proxy.do(self._links[slot, etcd].join())

    def slow(self, slot: str, seconds: float) -> None:
        """What they tell each other arrives so much later; 0 ends that."""
        for etcd in self._etcds:
            self._proxy.do(self._links[slot, etcd].slow(seconds))

    def isolate(self, etcd: int, *, silent: bool) -> None:
        """All processes lose one etcd."""
        for (_, number), link in self._links.items():
            if number == etcd:
                self._break(link, silent)

    def heal(self) -> None:
        """End everything."""
        for link in self._links.values():
            self._proxy.do(link.slow(0.0))
            self._proxy.do(link.join())

    def close(self) -> None:
        self._proxy.close()

    def _break(self, link: Link, silent: bool) -> None:
        self._proxy.do(link.mute() if silent else link.cut())
