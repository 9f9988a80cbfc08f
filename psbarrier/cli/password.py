"""A new password: read from a file that exists, or made and written into a new one that only its owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from psbarrier.errors import InvalidArgumentError
from psbarrier.store.password import PasswordFile

_BYTES = 24


class NewPassword:
    """Where a user's new password is, or will be.

    With `generate`, the file must not exist; it is made, with a random password, by the first call of `password()`.
    """

    def __init__(self, path: str, *, generate: bool) -> None:
        self.path = path
        self.made = False
        self._generate = generate
        if generate and os.path.lexists(path):
            raise self._exists()

    def password(self) -> str:
        """The password. Raises InvalidArgumentError when the file cannot be read or made, or holds none."""
        if self._generate and not self.made:
            self._make()
        password = PasswordFile(self.path).checked()()
        if not password:
            raise InvalidArgumentError(f"the password file {self.path!r} is empty")
        return password

    def discard(self) -> None:
        """Remove the file if it was made here: its password is nobody's."""
        if self.made:
            Path(self.path).unlink(missing_ok=True)

    def _make(self) -> None:
        try:
            number = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise self._exists() from error
        except OSError as error:
            raise InvalidArgumentError(f"the password file {self.path!r} cannot be made: {error.strerror}") from error
        self.made = True
        with open(number, "w", encoding="utf-8") as file:
            file.write(f"{secrets.token_urlsafe(_BYTES)}\n")
            file.flush()
            os.fsync(number)  # etcd must not know a password that a crash of this machine has lost

    def _exists(self) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"the file {self.path!r} exists, and no password is written over: pass --new-password-file to use the one in it, "
            "or name another file"
        )
