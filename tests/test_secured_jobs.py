"""Whole jobs over an etcd that is secured, in each of the ways that there are; and what is renewed while they run."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from attrs import field, frozen
from cli.helpers import finished, run_args, unique
from helpers import eventually
from jobs import PATIENCE, Place, call, returned
from store.certificates import Authority
from users import PASSWORD, enable_auth, enable_plain_auth

import psbarrier
from psbarrier import TLS, Member, MemberState
from psbarrier.embedded import EtcdServer
from psbarrier.store.base import Put, Range, Store, Txn
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.password import PasswordFile

pytestmark = pytest.mark.e2e

# Two tasks that meet; each joins by its environment alone, and uses every kind of call.
PROGRAM = """
import os, psbarrier
with psbarrier.join() as me:
    me.cluster(60)
    me.share("k", 1)
    me.barrier("b").wait(60)
    assert me.get("k", 60) == 1
    print("user", os.environ.get("PSBARRIER_USER"), flush=True)
"""


@frozen
class Secured:
    """An etcd, the options by which one gets in, and the root user's own way."""

    server: EtcdServer
    options: tuple[str, ...]
    variables: Mapping[str, str] = field(factory=dict)


class Files:
    """Certificates, keys and a password on disk, which can be replaced by others of the same names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.password = folder / "ca.pem", folder / "password"
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.server_cert, self.server_key = folder / "server-cert.pem", folder / "server-key.pem"
        self.server_ca = folder / "server-ca.pem"
        self._generation = 0
        self.renew()
        self.password.write_text(PASSWORD + "\n")

    def renew(self) -> None:
        """A new authority, and whatever it vouches for."""
        self._generation += 1
        folder = self.folder / str(self._generation)
        folder.mkdir()
        authority = Authority(folder, "authority")
        pairs = [(authority.certificate, self.ca), (authority.certificate, self.server_ca)]
        pairs += zip(authority.issue("app"), (self.cert, self.key), strict=True)
        pairs += zip(authority.issue("server"), (self.server_cert, self.server_key), strict=True)
        for source, target in pairs:
            shutil.copy(source, target)
        for source, name in zip(authority.issue("root"), ("root.pem", "root.key"), strict=True):
            shutil.copy(source, self.folder / name)

    @property
    def server_flags(self) -> list[str]:
        return [f"--cert-file={self.server_cert}", f"--key-file={self.server_key}", "--bcrypt-cost=4"]

    @property
    def mutual_flags(self) -> list[str]:
        return [*self.server_flags, f"--trusted-ca-file={self.server_ca}", "--client-cert-auth"]

    def enable_auth(self, server: EtcdServer) -> None:
        """User `app`, who is known by a password and by a certificate, may read and write what jobs do, and no more."""
        with self._operator(server) as store:
            enable_auth(store, "/psbarrier/")

    def change_password(self, server: EtcdServer, password: str) -> None:
        with self._operator(server, user="root", password=PASSWORD) as store:
            store.accounts.set_password("app", password, store.clock.now() + PATIENCE)

    def _operator(self, server: EtcdServer, user: str | None = None, password: str | None = None) -> EtcdStore:
        tls = TLS(self.ca, self.folder / "root.pem", self.folder / "root.key")
        return EtcdStore(server.endpoint, tls=tls, user=user, password=password)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return Files(folder)


def by_server(files: Files) -> Iterator[Secured]:
    """etcd shows a certificate, and lets everybody in."""
    with EtcdServer(extra_args=files.server_flags) as server:
        yield Secured(server, ("--ca", str(files.ca)))


def by_both(files: Files) -> Iterator[Secured]:
    """Both sides show one."""
    with EtcdServer(extra_args=files.mutual_flags) as server:
        yield Secured(server, ("--ca", str(files.ca), "--cert", str(files.cert), "--key", str(files.key)))


def by_name(files: Files) -> Iterator[Secured]:
    """The name in the client's certificate is the user: no password, and no token."""
    for secured in by_both(files):
        files.enable_auth(secured.server)
        yield secured


def by_password(files: Files) -> Iterator[Secured]:
    """A login over TLS."""
    with EtcdServer(extra_args=files.server_flags) as server:
        files.enable_auth(server)
        options = ("--ca", str(files.ca), "--user", "app", "--password-file", str(files.password))
        yield Secured(server, options, {"user": "app"})


def by_plain_password(files: Files) -> Iterator[Secured]:
    """A login over a network that is said to be safe."""
    with EtcdServer(extra_args=["--bcrypt-cost=4"]) as server:
        enable_plain_auth(server.endpoint, "/psbarrier/")
        options = ("--user", "app", "--password-file", str(files.password), "--allow-plaintext-password")
        yield Secured(server, options, {"user": "app"})


WAYS = {way.__name__: way for way in (by_server, by_both, by_name, by_password, by_plain_password)}


@pytest.fixture(params=WAYS)
def secured(request: pytest.FixtureRequest, files: Files) -> Iterator[Secured]:
    way: Callable[[Files], Iterator[Secured]] = WAYS[request.param]
    yield from way(files)


def test_a_whole_job_runs_by_options(secured: Secured, tmp_path: Path) -> None:
    """`psbarrier local` gets them, and its children find the same way in through their environment."""
    command = finished(
        tmp_path,
        None,
        *("local", "--worker", "2", "--endpoints", secured.server.endpoint, *secured.options, "--", sys.executable),
        *("-c", PROGRAM),
    )
    assert command.code() == 0, command.text
    assert command.out.count(f"user {secured.variables.get('user')}") == 2


@pytest.mark.parametrize("secured", ["by_password", "by_plain_password"], indirect=True)
def test_a_task_runs_by_the_environment(secured: Secured, tmp_path: Path) -> None:
    """`psbarrier run` takes from its own what it hands on."""
    variables = {"PSBARRIER_ENDPOINTS": secured.server.endpoint}
    words = list(secured.options)
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_").upper()
        variables[f"PSBARRIER_{name}"] = "1" if name == "ALLOW_PLAINTEXT_PASSWORD" else words.pop(0)
    command = finished(tmp_path, None, *run_args(unique()), sys.executable, "-c", PROGRAM, **variables)
    assert command.code() == 0, command.text


def test_without_what_is_asked_for_nobody_gets_in(files: Files, tmp_path: Path) -> None:
    """And each is told what is missing."""
    for secured in by_name(files):
        endpoint = ("--endpoints", secured.server.endpoint)
        without = finished(tmp_path, None, "wait", "--for", "store", "--timeout", "5", *endpoint, "--ca", str(files.ca))
        assert without.code() == 112
        assert "does it ask for a client certificate that it trusts?" in without.err
    for secured in by_plain_password(files):
        endpoint = ("--endpoints", secured.server.endpoint)
        login = [option for option in secured.options if option != "--allow-plaintext-password"]
        refused = finished(tmp_path, None, "status", "j", *endpoint, *login)
        assert refused.code() == 2
        assert "--allow-plaintext-password" in refused.err
        with pytest.raises(psbarrier.InvalidArgumentError, match="PSBARRIER_ALLOW_PLAINTEXT_PASSWORD=1"):
            psbarrier.connect(secured.server.endpoint, user="app", password=PASSWORD)


class Renewed(Place):
    """A place whose clients read certificates and password from files."""

    def __init__(self, server: EtcdServer, files: Files, *, login: bool, mutual: bool) -> None:
        self._files, self._login, self._mutual = files, login, mutual
        super().__init__(server)

    def _etcd_client(self) -> Store:
        assert self.etcd is not None
        files = self._files
        own = (files.cert, files.key) if self._mutual else (None, None)
        user, password = ("app", PasswordFile(str(files.password))) if self._login else (None, None)
        return EtcdStore(self.etcd.endpoint, tls=TLS(files.ca, *own), user=user, password=password)


@pytest.mark.parametrize("way", ["password", "certificate"])
def test_what_is_replaced_on_disk_is_used_when_etcd_comes_back(files: Files, way: str) -> None:
    """Another authority, other certificates and another password, while a task waits at a barrier: requests, the watch and
    the keep-alives all get in with what the files hold then, and the task does not notice."""
    flags = files.server_flags if way == "password" else files.mutual_flags
    with EtcdServer(extra_args=flags) as server:
        files.enable_auth(server)
        with Renewed(server, files, login=way == "password", mutual=way == "certificate") as place:
            members = place.start(ttl=3)
            parties = [member.barrier("b") for member in members]
            waiting = call(parties[0].wait, PATIENCE)
            place.until(lambda: parties[0].n_waiting == 1)
            if way == "password":
                files.change_password(server, "another")
            server.stop()
            files.renew()
            files.password.unlink()  # as a secret that is being replaced is missing for a moment
            server.start()
            sure = [member._session.certain_until for member in members]
            files.password.write_text("another")
            place.apply(Txn(then=(Put(f"/psbarrier/{place.job}/a", b""),)))
            assert eventually(lambda: all(beats(m, s) for m, s in zip(members, sure, strict=True)))
            second = call(parties[1].wait, PATIENCE)
            assert sorted((returned(waiting), returned(second))) == [0, 1]
            assert {member.state for member in members} == {MemberState.CONNECTED}


def beats(member: Member, sure: float) -> bool:
    return member._session.certain_until > sure + 1


def test_old_certificates_do_not_get_in_again(files: Files) -> None:
    """Until they are replaced, each request says why; then the same store gets in."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EtcdServer(extra_args=files.mutual_flags))
        store = stack.enter_context(EtcdStore(server.endpoint, tls=TLS(files.ca, files.cert, files.key)))
        store.read(Range("/a"), until=store.clock.now() + PATIENCE)
        old = {path: path.read_bytes() for path in (files.ca, files.cert, files.key)}
        server.stop()
        files.renew()
        new = {path: path.read_bytes() for path in old}
        server.start()
        for path, content in old.items():
            path.write_bytes(content)
        with pytest.raises(psbarrier.StoreUnavailableError, match="TLS handshake failed"):
            store.read(Range("/a"), until=store.clock.now() + 1.5)
        for path, content in new.items():
            path.write_bytes(content)
        store.read(Range("/a"), until=store.clock.now() + PATIENCE)
