"""Accounts: etcd's users and roles.

A change that is repeated does no harm: what has already been made or removed is told apart, and is no error. Passwords are
in requests only, never in a message. All calls raise StoreUnavailableError at `until`, and StoreRefusedError where the
login lacks the rights: etcd lets only users with the role `root` manage others.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen

from psbarrier.errors import InvalidArgumentError, StoreRefusedError
from psbarrier.shelter import sheltered
from psbarrier.store import compat
from psbarrier.store.base import prefix_end
from psbarrier.store.calls import Calls
from psbarrier.store.failures import Kind

_KINDS: tuple[Literal["read", "write", "readwrite"], ...] = ("read", "write", "readwrite")
_NOBODY = "psbarrier-nobody"


@frozen
class Permission:
    """What a role may do with the keys in [key, end), or with `key` alone where `end` is empty."""

    key: str
    end: str
    kind: Literal["read", "write", "readwrite"]

    @classmethod
    def below(cls, prefix: str) -> Permission:
        """To read and write every key that starts with `prefix`."""
        return cls(prefix, prefix_end(prefix), "readwrite")

    def __str__(self) -> str:
        where = f"{self.key!r} up to {self.end!r}" if self.end else repr(self.key)
        return f"{self.kind} {where}"


class Accounts:
    """Over the calls of one store. `confidential`: passwords may be sent on this connection."""

    def __init__(self, calls: Calls, *, confidential: bool) -> None:
        self._calls = calls
        self._confidential = confidential

    def enabled(self, until: float) -> bool:
        """Whether etcd asks for logins at all."""
        return self._authenticates(_NOBODY, "nothing", until) is not None

    def authenticates(self, user: str, password: str, until: float) -> bool | None:
        """Whether that is the user's password; None where etcd asks for no logins, and so cannot tell."""
        self.check_confidential(user)
        return self._authenticates(user, password, until)

    def _authenticates(self, user: str, password: str, until: float) -> bool | None:
        request = compat.load().AuthenticateRequest(name=user, password=password)
        try:
            answer = self._send("Authenticate", request, until, accept=Kind.NO_AUTH)
        except StoreRefusedError:
            return False
        return None if answer is None else True

    def roles_of(self, user: str, until: float) -> tuple[str, ...] | None:
        """The user's roles; None when there is no such user."""
        answer = self._send("UserGet", compat.load().AuthUserGetRequest(name=user), until, accept=Kind.ABSENT)
        return None if answer is None else tuple(answer.roles)

    def permissions_of(self, role: str, until: float) -> tuple[Permission, ...] | None:
        """What the role may do; None when there is no such role."""
        answer = self._send("RoleGet", compat.load().AuthRoleGetRequest(role=role), until, accept=Kind.ABSENT)
        if answer is None:
            return None
        return tuple(Permission(_text(perm.key), _text(perm.range_end), _KINDS[perm.permType]) for perm in answer.perm)

    def add_user(self, user: str, password: str, until: float) -> bool:
        """Make a user; False when there is one of that name, whose password then stays."""
        self.check_confidential(user)
        request = compat.load().AuthUserAddRequest(name=user, password=password)
        return self._send("UserAdd", request, until, accept=Kind.EXISTS) is not None

    def set_password(self, user: str, password: str, until: float) -> None:
        """Give a user another password. Its tokens die, and whoever holds one logs in again."""
        self.check_confidential(user)
        request = compat.load().AuthUserChangePasswordRequest(name=user, password=password)
        self._send("UserChangePassword", request, until)

    def add_role(self, role: str, until: float) -> bool:
        """Make a role that may nothing; False when there is one of that name."""
        return self._send("RoleAdd", compat.load().AuthRoleAddRequest(name=role), until, accept=Kind.EXISTS) is not None

    def permit(self, role: str, permission: Permission, until: float) -> None:
        """Add a permission to a role."""
        request = compat.load().AuthRoleGrantPermissionRequest(name=role)
        request.perm.permType = _KINDS.index(permission.kind)
        request.perm.key, request.perm.range_end = permission.key.encode(), permission.end.encode()
        self._send("RoleGrantPermission", request, until)

    def give(self, user: str, role: str, until: float) -> None:
        """Give a role to a user."""
        self._send("UserGrantRole", compat.load().AuthUserGrantRoleRequest(user=user, role=role), until)

    def remove_user(self, user: str, until: float) -> bool:
        """Remove a user; False when there was none."""
        request = compat.load().AuthUserDeleteRequest(name=user)
        return self._send("UserDelete", request, until, accept=Kind.ABSENT) is not None

    def remove_role(self, role: str, until: float) -> bool:
        """Remove a role, and take it from all users; False when there was none."""
        request = compat.load().AuthRoleDeleteRequest(role=role)
        return self._send("RoleDelete", request, until, accept=Kind.ABSENT) is not None

    @sheltered
    def _send(self, verb: str, request: Any, until: float, accept: Kind | None = None) -> Any:
        return self._calls.send(lambda link: getattr(link.auth, verb), request, until=until, repeat=True, accept=accept)

    def check_confidential(self, user: str) -> None:
        """Raise InvalidArgumentError where a password must not be sent."""
        if not self._confidential:
            raise InvalidArgumentError(
                f"The password of user {user!r} would cross the network in plain text: use TLS (https:// endpoints, or a CA)."
            )


def _text(key: bytes) -> str:
    return key.decode(errors="replace")
