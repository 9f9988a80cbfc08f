"""Account: the etcd user of one job, who may read and write that job's keys and no others.

The user has one role, of the same name, and the role one permission: everything below `<prefix>/<job>/`, with the slash.
A process of the job needs nothing else. It asks etcd outside of its prefix only whether it answers, for which "permission
denied" will do; and leases need no permission.

It keeps jobs out of each other's way; against a user who means harm it protects the keys, and no more. Leases are common to
all of etcd: any user may list them, keep them alive, bind keys of its own to them (only their end removes them then, since
nobody may revoke a lease with a key that he may not write), and revoke those without keys. And how well etcd guards the keys
depends on its version; see psbarrier/store/known_bugs.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from psbarrier.errors import InvalidArgumentError
from psbarrier.protocol.keys import JobKeys
from psbarrier.store.accounts import Permission

if TYPE_CHECKING:
    from psbarrier.store.etcd import EtcdStore

_LONGEST = 255


@frozen
class Account:
    """The user and the role `name` of the job whose keys are `job`."""

    job: JobKeys
    name: str

    @classmethod
    def of(cls, job: JobKeys, name: str | None = None) -> Account:
        """By default the name is psbarrier-JOB. Raises InvalidArgumentError for a name that nobody should have."""
        chosen = f"psbarrier-{job.job}" if name is None else name
        if not (chosen.isprintable() and chosen.strip() == chosen and 0 < len(chosen) <= _LONGEST):
            raise InvalidArgumentError(
                f"the user name {chosen!r:.80} is no use: give 1 to {_LONGEST} printable characters"
            )
        if chosen == "root":
            raise InvalidArgumentError("the user 'root' may everything in etcd, whatever its roles: give another name")
        return cls(job, chosen)

    @property
    def permission(self) -> Permission:
        """All that the role may do."""
        return Permission.below(self.job.root)


def ensure(store: EtcdStore, account: Account, password: Callable[[], str] | None) -> list[str]:
    """Make the user and its role as they should be; what was changed, a sentence each, nothing when all was so before.

    `password` is called once it is certain that the password is needed; None keeps that of a user who exists. Everything
    that is looked at is looked at before anything is changed.

    Raises InvalidArgumentError when the role exists and may other things, or when there is no user and no password;
    StoreRefusedError when the login may not manage users; StoreUnavailableError. Harmless to repeat.
    """
    accounts, name, until = store.accounts, account.name, _Until(store)
    if password is not None:
        accounts.check_confidential(name)
    roles, permissions = accounts.roles_of(name, until()), accounts.permissions_of(name, until())
    _check_ours(account, permissions)
    if roles is None and password is None:
        raise InvalidArgumentError(f"there is no user {name!r} yet: say where its password comes from")
    done = []
    if permissions is None:
        accounts.add_role(name, until())
    if not permissions:
        accounts.permit(name, account.permission, until())
        done.append(f"the role {name!r} may read and write below {account.job.root}")
    done += _ensure_user(store, name, roles, password)
    if name not in (roles or ()):
        accounts.give(name, name, until())
        done.append(f"the user {name!r} has the role {name!r}")
    return done


def _ensure_user(
    store: EtcdStore, name: str, roles: tuple[str, ...] | None, password: Callable[[], str] | None
) -> list[str]:
    accounts, until = store.accounts, _Until(store)
    if password is None:
        return []
    secret = password()
    # Somebody else may have made the same user meanwhile, with another password.
    if roles is None and accounts.add_user(name, secret, until()):
        return [f"the user {name!r} is made"]
    known = accounts.authenticates(name, secret, until())
    if known:
        return []
    accounts.set_password(name, secret, until())
    unsure = ", which may be the one that it had: without authentication etcd cannot tell" if known is None else ""
    return [f"the user {name!r} has the password that was given{unsure}"]


def remove(store: EtcdStore, account: Account) -> list[str]:
    """Take user and role away; what was done, nothing when neither was there.

    Raises InvalidArgumentError when the user has other roles too, or the role may other things: then they are somebody
    else's; StoreRefusedError and StoreUnavailableError as `ensure`. Harmless to repeat.
    """
    accounts, name, until = store.accounts, account.name, _Until(store)
    roles = accounts.roles_of(name, until())
    _check_ours(account, accounts.permissions_of(name, until()))
    others = ", ".join(repr(role) for role in roles or () if role != name)
    if others:
        raise InvalidArgumentError(
            f"the user {name!r} also has the role {others}, so it is not this job's alone: take that away first, or leave it"
        )
    done = [f"the user {name!r} is removed"] if accounts.remove_user(name, until()) else []
    return done + ([f"the role {name!r} is removed"] if accounts.remove_role(name, until()) else [])


def other_roles(store: EtcdStore, account: Account) -> tuple[str, ...]:
    """The user's further roles, which let it do more than its job needs."""
    roles = store.accounts.roles_of(account.name, _Until(store)())
    return tuple(role for role in roles or () if role != account.name)


def _check_ours(account: Account, permissions: tuple[Permission, ...] | None) -> None:
    others = [permission for permission in permissions or () if permission != account.permission]
    if others:
        told = ", ".join(str(permission) for permission in others[:3])
        raise InvalidArgumentError(
            f"the role {account.name!r} exists and may also {told}: it is not this job's; give another name, or remove it"
        )


@frozen
class _Until:
    """A deadline for each request of its own: two attempts."""

    store: EtcdStore

    def __call__(self) -> float:
        return self.store.clock.now() + 2 * self.store.request_timeout
