"""What etcd itself has counted: requests by kind, the events that its watches delivered, and bytes.

A request is a message that etcd received: a call, or one message on a stream (a keep-alive, the opening or closing of a
watch). An event is one change told to one watch, however many come in a message.
"""

from __future__ import annotations

import re
import urllib.request
from collections import Counter
from typing import Self

from attrs import field, frozen

_REQUESTS = re.compile(r'^grpc_server_msg_received_total\{grpc_method="(\w+)".*\} (\S+)$', re.MULTILINE)
_EVENTS = re.compile(r"^etcd_debugging_mvcc_events_total (\S+)$", re.MULTILINE)
_SENT = re.compile(r"^etcd_network_client_grpc_sent_bytes_total (\S+)$", re.MULTILINE)


def _counter(given: dict[str, int]) -> Counter[str]:
    return Counter({kind: count for kind, count in given.items() if count})


@frozen
class Counters:
    """Counts since etcd started, or between two moments: `later - earlier`."""

    requests: Counter[str] = field(converter=_counter)
    """By kind: Txn, Range, LeaseGrant, LeaseKeepAlive, LeaseRevoke, Watch, …"""
    events: int
    sent: int
    """Bytes that etcd sent to its clients."""

    @classmethod
    def read(cls, endpoint: str) -> Self:
        """What the etcd at `endpoint`, "host:port" without TLS, has counted until now."""
        with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        requests: Counter[str] = Counter()
        for kind, count in _REQUESTS.findall(text):
            requests[kind] += int(float(count))
        return cls(requests, _one(_EVENTS, text), _one(_SENT, text))

    @property
    def total(self) -> int:
        """All requests."""
        return self.requests.total()

    def __sub__(self, earlier: Counters) -> Counters:
        kinds = self.requests.keys() | earlier.requests.keys()
        requests = {kind: self.requests[kind] - earlier.requests[kind] for kind in kinds}
        return Counters(requests, self.events - earlier.events, self.sent - earlier.sent)


def _one(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    if found is None:
        raise ValueError(f"this etcd does not count {pattern.pattern.split(' ')[0].lstrip('^')}")
    return int(float(found[1]))
