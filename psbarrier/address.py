"""The address that others reach this process under, when nobody gave one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from psbarrier.errors import InvalidArgumentError


def default_address(endpoints: Iterable[str]) -> str:
    """The host on the route to the first etcd endpoint that has one, and a port that is free now.

    No packet is sent: connecting a datagram socket only asks the kernel for the route. Another process may take the port
    before it is used; give an address where that matters.
    """
    host = next((found for found in map(_own_host, endpoints) if found), "127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise InvalidArgumentError(
                f"no free port could be found on {host} ({error.strerror}): give this process's address"
            ) from error
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _own_host(endpoint: str) -> str | None:
    host, _, port = endpoint.rpartition(":")
    try:
        known = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return None
    for family, kind, protocol, _name, target in known:
        with contextlib.suppress(OSError), contextlib.closing(socket.socket(family, kind, protocol)) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    return None
