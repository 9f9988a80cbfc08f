"""Where etcd listens: `host:port` in all its spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import quote

from attrs import frozen

from psbarrier.errors import InvalidArgumentError

_ENDPOINT = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+):(?P<port>[0-9]{1,5})/?", re.ASCII
)


@frozen
class Endpoints:
    """Addresses of the members of one etcd cluster, in the order in which they are tried, each once.

    `secure` is what their prefixes ask for: True for https, False for http, None without a prefix.
    """

    addresses: tuple[str, ...]
    secure: bool | None = None


def parse_endpoints(endpoints: str | Iterable[str]) -> Endpoints:
    """Read "host:port[,host:port…]", or several of those; a host is a name, an IPv4 address or [an IPv6 address].

    Raises InvalidArgumentError for what can never be reached: nothing at all, no port, a port outside 1…65535, or
    http and https side by side.
    """
    if not isinstance(endpoints, Iterable):
        raise InvalidArgumentError(f"{endpoints!r:.80} is neither a store nor the endpoints of one.")
    texts = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    if not all(isinstance(text, str) for text in texts):
        raise InvalidArgumentError('endpoints must be "host:port[,host:port…]" or a sequence of such strings.')
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not any(parts):
        raise InvalidArgumentError('No etcd endpoint given: name at least one as "host:port".')
    parsed = [_parse(part) for part in parts]
    schemes = {scheme for scheme, _ in parsed if scheme}
    if len(schemes) > 1:
        raise InvalidArgumentError("The endpoints mix http:// and https://: all members of one etcd must use the same.")
    addresses = tuple(dict.fromkeys(address for _, address in parsed))
    return Endpoints(addresses, secure=schemes == {"https"} if schemes else None)


def _parse(text: str) -> tuple[str | None, str]:
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        _refuse(text, "write host:port, [IPv6]:port, http://host:port or https://host:port")
    port = int(match["port"])
    if not 1 <= port <= 65535:
        _refuse(text, "the port must lie between 1 and 65535")
    return match["scheme"], f"{match['host']}:{port}"


def _refuse(text: str, advice: str) -> NoReturn:
    if "@" in text:  # perhaps a password before the host: not to be repeated
        text = "…" + text[text.rindex("@") :]
    raise InvalidArgumentError(f"{text!r} is not an etcd endpoint: {advice}.")


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of "host:port", an IPv6 address without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def grpc_target(address: str) -> str:
    """The name that gRPC knows an address by; with its scheme, so that no host name is taken for one."""
    return "dns:///" + quote(address, safe="[]:.")
