"""Passwords and tokens stay where they belong: in a file, in memory, and on the wire.

The password is random and so is etcd's token; whatever psbarrier lets out is searched for both.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import secrets
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from attrs import frozen
from cli import helpers
from cli.helpers import psbarrier, run_args, unique
from helpers import eventually, processes
from jobs import PATIENCE, call, raised, returned
from users import enable_plain_auth

import psbarrier as library
from psbarrier.embedded import EtcdServer
from psbarrier.errors import PsBarrierError
from psbarrier.store import compat
from psbarrier.store.base import Range
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.password import PasswordFile

pytestmark = pytest.mark.e2e


@frozen
class Vault:
    """An etcd that lets `app` in, and the file with the password."""

    server: EtcdServer
    password: str
    path: Path

    def store(self) -> EtcdStore:
        return EtcdStore(
            self.server.endpoint,
            prefix="/app",
            user="app",
            password=PasswordFile(str(self.path)),
            allow_plaintext_password=True,
        )


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    password = secrets.token_hex(20)
    path = tmp_path / "password"
    path.write_text(password)
    with EtcdServer(extra_args=["--bcrypt-cost=4"]) as server:
        enable_plain_auth(server.endpoint, "/app/", password)
        yield Vault(server, password, path)


def token(store: EtcdStore) -> str:
    shown = store._login._pass
    assert shown is not None
    found = dict(shown.metadata)["token"]
    assert len(found) > 15
    return found


def told_by(error: BaseException) -> str:
    """All that an error says, in whatever way somebody writes it down."""
    parts = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    if isinstance(error, PsBarrierError):
        parts.append(pickle.dumps(error).decode("latin1"))
    return "\n".join(parts)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def reprs() -> str:
    """Every object of ours that is alive in this process."""
    ours = [thing for thing in gc.get_objects() if str(type(thing).__module__).startswith("psbarrier.")]
    assert len(ours) > 50
    return "\n".join(repr(thing) for thing in ours)


def test_neither_is_in_what_this_process_says(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    """In a job's life: a start, a restart of etcd, a wrong password, rights that are missing, an etcd that is away. In the
    log down to DEBUG, in each error with its causes, attributes and pickle, and in the repr of each object."""
    caplog.set_level(logging.DEBUG)
    tokens, errors, said = set[str](), list[BaseException](), list[str]()
    with vault.store() as store:
        member = library.join(store, "j", "worker", 0, replicas={"worker": 1}, address="h:1", ttl=2)
        member.cluster(PATIENCE)
        tokens.add(token(store))
        said.append(reprs())
        vault.server.restart()
        assert member.barrier("b").wait(PATIENCE) == 0
        tokens.add(token(store))
        errors.append(raised(call(store.read, Range("/other"), until=store.clock.now() + PATIENCE)))
        vault.path.write_text(vault.password + "x")
        vault.server.restart()
        errors.append(raised(call(member.share, "k", 1)))
        said.append(reprs())
        vault.path.unlink()
        errors.append(raised(call(store.read, Range("/app/a"), until=store.clock.now() + 0.3)))
        vault.path.write_bytes(vault.password.encode() + b"\xff")
        errors.append(raised(call(store.read, Range("/app/a"), until=store.clock.now() + 0.3)))
        vault.path.write_text(vault.password)
        returned(call(store.read, Range("/app/a"), until=store.clock.now() + PATIENCE))
        tokens.add(token(store))
        vault.server.stop()
        errors.append(raised(call(store.read, Range("/app/a"), until=store.clock.now() + 0.5)))
        said += [reprs(), *(told_by(each) for error in errors for each in chain(error))]
        vault.server.start()
        member.close()
    said += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    assert len(tokens) == 3
    assert caplog.records
    for secret in (vault.password, *tokens):
        assert not [text for text in said if secret in text]


def test_a_client_that_was_handed_in_keeps_its_token(vault: Vault) -> None:
    """Its login is not ours, but is in our hands."""
    compat.load()
    import etcd3

    with grpc.insecure_channel(vault.server.endpoint) as channel:
        rpc = compat.load()
        request = rpc.AuthenticateRequest(name="app", password=vault.password)
        found = rpc.AuthStub(channel).Authenticate(request, timeout=20).token
    host, _, port = vault.server.endpoint.rpartition(":")
    client = etcd3.Etcd3Client(host=host, port=int(port))
    client.metadata = (("token", found),)
    with EtcdStore(client) as store:
        store.read(Range("/app/a"), until=store.clock.now() + PATIENCE)
        assert found not in reprs()
        assert found not in repr(store)
    client.close()


# Tells every token that it gets to the test, by a file that is not searched, and logs all there is to log.
DEBUGGING = """
import logging, os, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
from psbarrier.store import login
_with_token = login._with_token
def with_token(token, link):
    with open(os.environ["TEST_TOKENS"], "a") as file:
        file.write(token + "\\n")
    return _with_token(token, link)
login._with_token = with_token
"""
CHILD = """
import psbarrier, sys
with psbarrier.join() as me:
    me.cluster(60)
    print("up", flush=True)
    open(sys.argv[1]).read()
    me.share("k", 1)
    assert me.get("k") == 1
    print("done", repr(me), flush=True)
"""


def tree(pid: int) -> set[int]:
    """A process and all its descendants."""
    found, table = {pid}, processes()
    while True:
        more = {child for child, (parent, _) in table.items() if parent in found} - found
        if not more:
            return found
        found |= more


def test_neither_is_in_what_a_command_or_its_child_shows(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their output at DEBUG, their arguments and their environments, over a restart of etcd and a wrong password."""
    tokens, fifo = tmp_path / "tokens", tmp_path / "go"
    os.mkfifo(fifo)
    monkeypatch.setattr(helpers, "MAIN", (sys.executable, "-c", DEBUGGING + helpers.MAIN[-1]))
    login = ("--endpoints", vault.server.endpoint, "--prefix", "/app", "--user", "app", "--allow-plaintext-password")
    options = (*login, "--password-file", str(vault.path), "--ttl", "2")
    child = (sys.executable, "-c", DEBUGGING + CHILD, str(fifo))
    shown: list[bytes] = []
    with psbarrier(tmp_path, None, *run_args(unique(), *options), *child, TEST_TOKENS=str(tokens)) as command:
        assert command.says("up"), command.text
        for pid in tree(command.process.pid):
            shown += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        before = len(tokens.read_text().split())
        vault.server.restart()
        assert eventually(lambda: len(tokens.read_text().split()) >= before + 2)
        fifo.write_text("go")
        assert command.code() == 0, command.text
        assert "done" in command.out
        shown += [command.out.encode(), command.err.encode()]
    assert len(shown) >= 8
    vault.path.write_text(vault.password + "x")
    with psbarrier(tmp_path, None, *run_args(unique(), *options), *child, TEST_TOKENS=str(tokens)) as command:
        assert command.code() == 113, command.text
        shown += [command.out.encode(), command.err.encode()]
    known = set(tokens.read_text().split())
    assert len(known) >= 4
    for secret in (vault.password, *known):
        assert not [text for text in shown if secret.encode() in text]


def test_a_password_in_an_endpoint_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    """Somebody will try it."""
    password = secrets.token_hex(20)
    with pytest.raises(library.InvalidArgumentError) as refused:
        library.connect(f"http://app:{password}@h:1")
    assert password not in told_by(refused.value)
