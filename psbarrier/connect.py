"""connect(): from endpoints, arguments and variables to a store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psbarrier.arguments import seconds
from psbarrier.errors import InvalidArgumentError
from psbarrier.settings import required, setting, yes_or_no
from psbarrier.store.endpoints import parse_endpoints

if TYPE_CHECKING:
    from psbarrier.store.etcd import EtcdStore
    from psbarrier.store.password import PasswordFile
    from psbarrier.store.tls import TLS

PREFIX = "/psbarrier"


def check_prefix(prefix: str) -> str:
    """`prefix` itself if keys can be put below it: /part or /part/part, of letters, digits, '.', '_' and '-'."""
    if isinstance(prefix, str) and re.fullmatch(r"(/[A-Za-z0-9._-]{1,63}){1,8}", prefix):
        return prefix
    raise InvalidArgumentError(
        f"the prefix {prefix!r} is not usable: write it as /psbarrier or /team/psbarrier, of letters, digits, '.', '_' "
        "and '-', without a slash at the end"
    )


def connect(
    endpoints: str | Sequence[str] | Any | None = None,
    *,
    prefix: str | None = None,
    tls: TLS | None = None,
    user: str | None = None,
    password: str | None = None,
    allow_plaintext_password: bool | None = None,
    timeout: float = 5.0,
) -> EtcdStore:
    """A store on the etcd at `endpoints`, which has answered once.

    `endpoints` is "host:port[,host:port…]", a sequence of such, or an existing `etcd3.Etcd3Client`. `timeout`, in
    seconds, bounds this call and each single request. What is not given comes from PSBARRIER_ENDPOINTS, _PREFIX, _CA,
    _CERT, _KEY, _USER, _PASSWORD_FILE and _ALLOW_PLAINTEXT_PASSWORD.

    A password is sent over TLS only, unless `allow_plaintext_password` is true: then whoever can read the network
    between here and etcd learns it, and with it all that its user may read and write.

    Raises InvalidArgumentError for what can never work, StoreUnavailableError when no endpoint answers (with the last
    reason for each), StoreRefusedError when etcd refuses the login.
    """
    store = open_store(
        endpoints,
        prefix=prefix,
        tls=tls,
        user=user,
        password=password,
        allow_plaintext_password=allow_plaintext_password,
        timeout=timeout,
    )
    return answered(store, timeout)


def answered(store: EtcdStore, patience: float) -> EtcdStore:
    """`store`, once etcd has answered; else it is closed after `patience`, in seconds, and `connect`'s errors are raised."""
    try:
        store.probe(until=store.clock.now() + patience)
    except BaseException:
        store.close()
        raise
    return store


def open_store(
    endpoints: str | Sequence[str] | Any | None = None,
    *,
    prefix: str | None = None,
    tls: TLS | None = None,
    user: str | None = None,
    password: str | None = None,
    allow_plaintext_password: bool | None = None,
    timeout: float = 5.0,
) -> EtcdStore:
    """Like `connect`, without asking etcd anything yet."""
    from psbarrier.store.etcd import EtcdStore  # gRPC takes long to import, and many who import psbarrier need none

    seconds("timeout", timeout, least=0.001)
    where = required("ENDPOINTS", endpoints, _read_endpoints)
    below = setting("PREFIX", prefix, str, check=check_prefix) or PREFIX
    return EtcdStore(
        where,
        prefix=below,
        tls=tls if tls is not None else _tls_from_environment(),
        user=setting("USER", user, str),
        password=password if password is not None else _password_from_environment(),
        allow_plaintext_password=bool(setting("ALLOW_PLAINTEXT_PASSWORD", allow_plaintext_password, yes_or_no)),
        timeout=timeout,
    )


def _read_endpoints(text: str) -> str:
    parse_endpoints(text)
    return text


def _tls_from_environment() -> TLS | None:
    ca = setting("CA", None, str)
    cert, key = setting("CERT", None, str), setting("KEY", None, str)
    if ca is None and cert is None and key is None:
        return None
    from psbarrier.store.tls import TLS

    return TLS(ca=ca, cert=cert, key=key)


def _password_from_environment() -> PasswordFile | None:
    """The password is read again at each login, so one that was changed on disk is picked up."""
    from psbarrier.store.password import PasswordFile

    return setting("PASSWORD_FILE", None, lambda path: PasswordFile(path).checked())
