"""What EtcdStore makes of its arguments; nothing here touches the network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from psbarrier.errors import InvalidArgumentError
from psbarrier.store.endpoints import grpc_target, parse_endpoints
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.tls import TLS


@pytest.mark.parametrize(
    ("given", "addresses", "secure"),
    [
        ("etcd-0:2379", ("etcd-0:2379",), None),
        ("a:1, b:2,a:1", ("a:1", "b:2"), None),
        (["a:1", "b:2,c:3"], ("a:1", "b:2", "c:3"), None),
        ("10.0.0.7:65535", ("10.0.0.7:65535",), None),
        ("[::1]:2379", ("[::1]:2379",), None),
        ("[fe80::1%eth0]:2379", ("[fe80::1%eth0]:2379",), None),
        ("http://a:1", ("a:1",), False),
        ("https://a.b.svc.cluster.local:2379/,b:1", ("a.b.svc.cluster.local:2379", "b:1"), True),
    ],
)
def test_endpoints_are_read_in_all_their_spellings(given: Any, addresses: tuple[str, ...], secure: bool | None) -> None:
    """Names, IPv4, [IPv6], a list in one string or several, http and https, each address once."""
    parsed = parse_endpoints(given)
    assert (parsed.addresses, parsed.secure) == (addresses, secure)


@pytest.mark.parametrize(
    "given",
    [
        "", " , ", [], "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:x", "::1:2379", "[::1]", "[zz]:1", "a:1,", "a:1,b",
        "ftp://a:1", "http://a", "a b:1", "http://a:1,https://b:2", "a:1/path", [b"a:1"], [None], "host\n:1",
    ],
)  # fmt: skip
def test_an_endpoint_that_can_never_work_is_refused_before_any_io(given: Any) -> None:
    """The constructor raises; nothing is looked up or connected to."""
    with pytest.raises(InvalidArgumentError):
        EtcdStore(given)


def test_a_password_in_an_endpoint_is_not_repeated() -> None:
    """A URL with credentials is refused, without its credentials."""
    with pytest.raises(InvalidArgumentError) as refused:
        EtcdStore("http://root:hunter2@etcd:2379")
    assert "hunter2" not in str(refused.value)


def test_a_host_name_is_never_taken_for_a_grpc_scheme() -> None:
    """gRPC reads "unix:2379" as a socket's path; here it is a host."""
    assert grpc_target("unix:2379") == "dns:///unix:2379"
    assert grpc_target("[fe80::1%eth0]:1") == "dns:///[fe80::1%25eth0]:1"


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan, "5", None])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """Anything else could only hang or fail later."""
    with pytest.raises(InvalidArgumentError, match="timeout"):
        EtcdStore("a:1", timeout=timeout)


def test_a_password_over_plain_text_must_be_allowed() -> None:
    """Refused by default; the error says the ways out and not the password."""
    with pytest.raises(InvalidArgumentError, match="allow_plaintext_password") as refused:
        EtcdStore("a:1", user="app", password="hunter2")
    assert "hunter2" not in str(refused.value)
    EtcdStore("a:1", user="app", password="hunter2", allow_plaintext_password=True).close()
    EtcdStore("https://a:1", user="app", password="hunter2").close()
    EtcdStore("a:1", tls=TLS(ca="ca.pem"), user="app", password=lambda: "hunter2").close()


@pytest.mark.parametrize("half", [{"user": "app"}, {"password": "hunter2"}])
def test_user_and_password_come_together(half: dict[str, Any]) -> None:
    """Half a login is a mistake."""
    with pytest.raises(InvalidArgumentError, match="both"):
        EtcdStore("https://a:1", **half)


def test_tls_and_http_contradict_each_other() -> None:
    """http:// says plain text."""
    with pytest.raises(InvalidArgumentError, match="http://"):
        EtcdStore("http://a:1", tls=TLS())


@pytest.mark.parametrize("half", [{"cert": "cert.pem"}, {"key": "key.pem"}])
def test_a_certificate_comes_with_its_key(half: dict[str, Any]) -> None:
    """Half a client certificate is a mistake."""
    with pytest.raises(InvalidArgumentError, match="key"):
        TLS(ca="ca.pem", **half)


def test_tls_holds_paths() -> None:
    """Strings are welcome."""
    assert TLS("ca.pem").ca == Path("ca.pem")


def test_the_repr_speaks_and_keeps_the_password() -> None:
    """Whoever debugs sees where, how and as whom, and no secret."""
    store = EtcdStore("https://a:1,b:2", user="app", password="hunter2")
    assert repr(store) == "<EtcdStore a:1,b:2 with TLS as app using a:1>"
    assert "hunter2" not in repr(vars(store))
    store.close()
    assert repr(store) == "<EtcdStore a:1,b:2 with TLS as app closed>"
    assert store.endpoints == ("a:1", "b:2")
