"""Names: before a command starts, the names in the others' addresses can be resolved.

A name that a headless Service gives to a Pod appears in the DNS a little after the Pod, and some frameworks look it up once. So
who waits here looks at all names of the sealed spec. It costs a look-up for each of them, about what the framework does next.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from psbarrier.errors import GateTimeoutError
from psbarrier.flows.effects import Progress, describe_missing
from psbarrier.flows.patience import Patience
from psbarrier.spec import ClusterSpec, host_of

AT_ONCE = 8
_PAUSE = 0.5  # seconds between two rounds; a resolver remembers for longer that a name was not there


def resolves(host: str) -> bool:
    """Whether the system knows an address for the host."""
    try:
        return bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False


def wait_for_names(
    spec: ClusterSpec,
    timeout: float,
    tell: Callable[[Progress], None],
    stop: threading.Event,
    *,
    known: Callable[[str], bool] = resolves,
) -> None:
    """Return once all names in the spec's addresses can be resolved, or `stop` is set.

    Raises GateTimeoutError, with the tasks whose names cannot be, after `timeout` seconds.
    """
    hosts = {str(member.task): host_of(member.address) for member in spec.members}
    names = {task: host for task, host in hosts.items() if not _is_address(host)}
    missing = dict(names)
    patience = Patience(time.monotonic, time.monotonic() + timeout)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="psbarrier-names") as pool:
        while not stop.is_set():
            found = dict(zip(missing, pool.map(known, missing.values()), strict=True))
            missing = {task: name for task, name in missing.items() if not found[task]}
            if not missing:
                return
            told = {task: f"its name {name!r} cannot be resolved" for task, name in missing.items()}
            if patience.over():
                raise GateTimeoutError(
                    f"after {patience.waited():.1f} s names of job {spec.job!r} cannot be resolved: "
                    f"{describe_missing(told)}; check the Service and the DNS",
                    missing=told,
                )
            if patience.due():
                there = len(names) - len(missing)
                tell(Progress("waiting for names", there, len(names), told, patience.waited(), patience.left()))
            stop.wait(_PAUSE)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
