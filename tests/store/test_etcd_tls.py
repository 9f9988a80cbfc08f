"""TLS to a real etcd, with certificates made for the test."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from psbarrier.embedded import EtcdServer
from psbarrier.errors import StoreUnavailableError
from psbarrier.store.base import Put, Txn
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.tls import TLS
from store.certificates import Authority
from store.helpers import Recorder, soon


@frozen
class Secured:
    """An etcd that speaks TLS and asks for a client's certificate, and the files to talk to it."""

    server: EtcdServer
    authority: Authority
    tls: TLS


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder, "authority")
    cert, key = authority.issue("server")
    flags = [
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority.certificate}",
        "--client-cert-auth",
    ]
    with EtcdServer(extra_args=flags) as server:
        yield Secured(server, authority, TLS(authority.certificate, *authority.issue("client")))


def test_with_the_right_certificates_all_is_as_without(secured: Secured) -> None:
    """Requests and streams; https:// may be said, and need not be."""
    for endpoint in (secured.server.endpoint, f"https://{secured.server.endpoint}"):
        sink = Recorder()
        with EtcdStore(endpoint, tls=secured.tls) as store:
            store.watch("/tls/", sink, until=soon(store))
            store.txn(Txn(then=(Put("/tls/a", b""),)), until=soon(store))
            sink.wait_for_key("/tls/a")
            assert "with TLS" in repr(store)


def reason(endpoint: str, tls: TLS | None) -> str:
    """What a store that cannot talk to `endpoint` says about it."""
    with EtcdStore(endpoint, tls=tls) as store, pytest.raises(StoreUnavailableError) as caught:
        store.probe(until=store.clock.now() + 0.5)
    return str(next(iter(caught.value.reasons.values())))


def test_an_etcd_that_another_authority_vouches_for_is_not_believed(secured: Secured, tmp_path: Path) -> None:
    """The reason says that it is about certificates."""
    stranger = Authority(tmp_path, "stranger")
    told = reason(secured.server.endpoint, TLS(stranger.certificate, secured.tls.cert, secured.tls.key))
    assert told.startswith("TLS handshake failed: certificate verify failed")


def test_plain_text_to_a_tls_etcd_gets_a_hint(secured: Secured) -> None:
    """etcd just hangs up; the likely cause is named."""
    assert reason(secured.server.endpoint, None) == "connection closed at once (does it ask for TLS?)"


def test_tls_to_a_plain_etcd_gets_a_hint(etcd: EtcdServer, secured: Secured) -> None:
    """The other side answers in plain text, or hangs up."""
    assert reason(etcd.endpoint, secured.tls).startswith("TLS handshake failed: ")


def test_without_a_certificate_that_etcd_trusts_it_is_said_that_one_is_missing(
    secured: Secured, tmp_path: Path
) -> None:
    """In the same words by TLS 1.2 and 1.3, which tell gRPC of it differently; which of the two is etcd's own build's."""
    stranger = Authority(tmp_path, "stranger").issue("client")
    for own in ((), stranger):
        told = reason(secured.server.endpoint, TLS(secured.authority.certificate, *own))
        assert told.startswith("TLS handshake failed: refused by the other side (does it ask for a client certificate")


def test_a_missing_file_is_named(secured: Secured, tmp_path: Path) -> None:
    """With its path."""
    told = reason(secured.server.endpoint, TLS(tmp_path / "none.pem"))
    assert told == f"cannot read the TLS file {tmp_path / 'none.pem'}: No such file or directory"


def test_rotated_certificates_are_read_at_the_next_connection(secured: Secured, tmp_path: Path) -> None:
    """A store that was given files of a wrong authority works once they have been replaced."""
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    stranger = Authority(tmp_path, "stranger")
    for source, target in zip((stranger.certificate, *stranger.issue("old")), (ca, cert, key), strict=True):
        shutil.copy(source, target)
    with EtcdStore(secured.server.endpoint, tls=TLS(ca, cert, key)) as store:
        with pytest.raises(StoreUnavailableError, match="TLS handshake failed"):
            store.probe(until=store.clock.now() + 0.5)
        for source, target in zip(
            (secured.authority.certificate, *secured.authority.issue("new")), (ca, cert, key), strict=True
        ):
            shutil.copy(source, target)
        store.probe(until=soon(store))


def test_a_name_is_checked_against_the_certificate(secured: Secured) -> None:
    """`localhost` stands in it too."""
    host = socket.getaddrinfo("localhost", None, socket.AF_INET)
    if not host:
        pytest.skip("this machine does not know localhost")
    port = secured.server.endpoint.rpartition(":")[2]
    with EtcdStore(f"localhost:{port}", tls=secured.tls) as store:
        store.probe(until=soon(store))
