"""TLS: which certificates to show to etcd, and whom to believe."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import field, frozen

from psbarrier.errors import InvalidArgumentError


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


@frozen
class TLS:
    """Paths of PEM files; they are read again at each new connection, so a rotated certificate is picked up.

    `ca` holds the authorities that may vouch for etcd (None: the ones that gRPC brings along); `cert` and `key` are
    this process's own certificate and its private key, where etcd asks for one.
    """

    ca: Path | None = field(default=None, converter=_path)
    cert: Path | None = field(default=None, converter=_path)
    key: Path | None = field(default=None, converter=_path)

    def __attrs_post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidArgumentError("A TLS certificate needs its key, and a key its certificate: give both or none.")
