"""etcd's users, as an administrator sets them up."""

from __future__ import annotations

from psbarrier.store import compat
from psbarrier.store.accounts import Permission
from psbarrier.store.etcd import EtcdStore

PASSWORD = "correct horse battery staple"


def enable_auth(store: EtcdStore, prefix: str | None = None, password: str = PASSWORD) -> None:
    """From now on etcd asks for a login. User `root` may do everything, and `app`, whom there is with a `prefix`, what
    concerns the keys that start with that; both have `password`."""
    until = store.clock.now() + 20
    for user in ("root", "app") if prefix is not None else ("root",):
        store.accounts.add_user(user, password, until)
        store.accounts.add_role(user, until)
        store.accounts.give(user, user, until)
    if prefix is not None:
        store.accounts.permit("app", Permission.below(prefix), until)
    request = compat.load().AuthEnableRequest()
    store._calls.send(lambda link: link.auth.AuthEnable, request, until=until, repeat=False)


def enable_plain_auth(endpoint: str, prefix: str, password: str = PASSWORD) -> None:
    """The same, over a network that is said to be safe."""
    with EtcdStore(endpoint, allow_plaintext_password=True) as store:
        enable_auth(store, prefix, password)
