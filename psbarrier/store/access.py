"""Access: everything that leads to an etcd, as plain values that another process can be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from psbarrier.store.password import PasswordFile
from psbarrier.store.tls import TLS


@frozen
class Access:
    """What an EtcdStore was made from. A password that comes from a file is known by the file's name.

    It goes to another process through a pipe only: never into an argument list, a variable or a log.
    """

    endpoints: tuple[str, ...]
    prefix: str
    timeout: float
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    allow_plaintext_password: bool = False

    @classmethod
    def of(cls, tls: TLS | None, password: str | Callable[[], str] | None, **given: Any) -> Access:
        """With these certificates and this password; the paths become absolute, for the other process may be elsewhere."""
        files = {"ca": tls.ca, "cert": tls.cert, "key": tls.key} if tls is not None else {}
        given |= {name: str(path.absolute()) for name, path in files.items() if path is not None}
        if isinstance(password, PasswordFile):
            given["password_file"] = str(Path(password.path).absolute())
        else:
            given["password"] = password() if callable(password) else password
        return cls(tls=tls is not None, **given)

    def as_dict(self) -> dict[str, Any]:
        """The values, as JSON can hold them."""
        return {**asdict(self), "endpoints": list(self.endpoints)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Access:
        """The reverse of `as_dict()`."""
        return cls(**{**given, "endpoints": tuple(given["endpoints"])})
