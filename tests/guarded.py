"""An etcd with TLS and users, as an administrator sets one up, and the way to it from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from store.certificates import Authority
from users import PASSWORD, enable_auth

from psbarrier.embedded import EtcdServer
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.tls import TLS


@frozen
class Guarded:
    """`server` speaks TLS; `authority` vouches for it. Users exist once `enable()` was called."""

    server: EtcdServer
    authority: Authority
    folder: Path

    @property
    def way(self) -> tuple[str, ...]:
        """The options that lead there, without a login."""
        return "--endpoints", self.server.endpoint, "--ca", str(self.authority.certificate)

    def login(self, user: str, password: str) -> tuple[str, ...]:
        """The options that log in, over a file."""
        path = self.folder / f"{user}.password"
        path.write_text(f"{password}\n")
        return *self.way, "--user", user, "--password-file", str(path)

    @property
    def admin(self) -> tuple[str, ...]:
        """The options of the administrator."""
        return self.login("root", PASSWORD)

    def store(self, user: str | None = None, password: str | None = None) -> EtcdStore:
        """A store as the library opens it."""
        return EtcdStore(self.server.endpoint, tls=TLS(self.authority.certificate), user=user, password=password)

    def root(self) -> EtcdStore:
        """The administrator's."""
        return self.store("root", PASSWORD)

    def enable(self) -> None:
        """From now on etcd asks for a login."""
        with self.store() as store:
            enable_auth(store)


@contextmanager
def guarded_etcd(folder: Path, *, enable: bool = True) -> Iterator[Guarded]:
    """Its certificates lie in `folder`; with `enable`, users are needed from the start."""
    authority = Authority(folder, "authority")
    cert, key = authority.issue("server")
    with EtcdServer(extra_args=[f"--cert-file={cert}", f"--key-file={key}", "--bcrypt-cost=4"]) as server:
        found = Guarded(server, authority, folder)
        if enable:
            found.enable()
        yield found
