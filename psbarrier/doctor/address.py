"""Address: whether the other tasks of a job can reach a process under its address, as far as this machine can tell."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket

from psbarrier.address import default_address
from psbarrier.doctor.connector import PATIENCE
from psbarrier.doctor.errand import within
from psbarrier.doctor.finding import Finding, Place
from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import check_address
from psbarrier.store.endpoints import host_and_port

_GIVE = "give one that the others can reach, with --address or PSBARRIER_ADDRESS"


def examine(given: str | None, endpoints: tuple[str, ...]) -> tuple[Finding, ...]:
    """The address that was given, or the one that join() would choose."""
    try:
        address = check_address(given) if given is not None else within(PATIENCE, lambda: default_address(endpoints))
    except InvalidArgumentError as error:
        return (Place("address").problem("name", str(error), "", "usage"),)
    except TimeoutError:
        return (Place("address").skipped("name", "the names of the endpoints are not known in time"),)
    place = Place(f"address {address}" if given is not None else f"address {address} (chosen)")
    host, port = host_and_port(address)
    try:
        known = within(PATIENCE, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        advice = (
            "check the spelling and the DNS; a headless service publishes the names of Pods that are not ready only if "
        )
        advice += "publishNotReadyAddresses is set"
        return (place.problem("name", f"the name {host!r} is not known here", advice, "usage"),)
    numbers = tuple(dict.fromkeys(str(entry[4][0]) for entry in known))
    return (_scope(place, host, numbers), _listening(place, known[0][0], numbers[0], port))


def _scope(place: Place, host: str, numbers: tuple[str, ...]) -> Finding:
    """Who can reach such an address."""
    kinds = [ipaddress.ip_address(number.partition("%")[0]) for number in numbers]
    told = ", ".join(numbers)
    named = told if told == host else f"{host} is {told} here"
    if any(kind.is_unspecified for kind in kinds):
        return place.problem("name", f"{named}, which means every address and is none", _GIVE, "usage")
    if any(kind.is_loopback for kind in kinds):
        advice = f"well for a job on this machine alone; else {_GIVE}"
        return place.warning("name", f"{named}: a loopback address, which only this machine can reach", advice)
    if any(kind.is_link_local for kind in kinds):
        return place.warning("name", f"{named}: a link-local address, which nobody beyond this link can reach", _GIVE)
    if told != host:
        return place.ok("name", f"{named}; whether the others know that name, they only can tell")
    return place.ok("name", told)


def _listening(place: Place, family: int, number: str, port: int) -> Finding:
    """Listen there, and connect to it; or find out why not."""
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((number, port))
            server.listen(1)
        except OSError as error:
            return _unbound(place, number, port, error)
        return _connect(place, number, port, "a process here can listen on it and be reached")


def _unbound(place: Place, number: str, port: int, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        said = "something already listens on that port, and can be reached"
        found = _connect(place, number, port, said)
        return found if found.kind else place.warning("reach", found.said, "that is well if it is the task itself")
    if error.errno == errno.EADDRNOTAVAIL:
        found = _connect(place, number, port, "")
        if not found.kind:
            return place.ok("reach", "not an address of this machine; somebody there listens")
        advice = "check that it leads here; behind a service or NAT it may be right, and can be tried only while the task runs"
        return place.warning("reach", "not an address of this machine, and nobody answers there", advice)
    if error.errno == errno.EACCES:
        return place.problem("reach", f"this user may not listen on port {port}", "take a port from 1024 on", "usage")
    return place.problem("reach", f"it cannot be listened on: {error.strerror}", _GIVE, "usage")


def _connect(place: Place, number: str, port: int, said: str) -> Finding:
    try:
        with socket.create_connection((number, port), timeout=PATIENCE):
            return place.ok("reach", said)
    except OSError as error:
        told = error.strerror or str(error)
        return place.problem("reach", f"listening works, but a connection to it does not: {told}", _GIVE, "usage")
