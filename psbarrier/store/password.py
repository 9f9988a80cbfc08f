"""Where a password comes from when it is not given as such: a file, read again at each login."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from psbarrier.errors import InvalidArgumentError


@frozen
class PasswordFile:
    """Called for the password, it reads the file: a mounted secret may be replaced while a job runs.

    The line's end is not part of the password. Raises OSError when the file cannot be read, which may pass.
    """

    path: str

    def __call__(self) -> str:
        return Path(self.path).read_text(encoding="utf-8").rstrip("\r\n")

    def checked(self) -> PasswordFile:
        """Itself, if the file can be read now; else InvalidArgumentError."""
        try:
            self()
        except OSError as error:
            raise InvalidArgumentError(f"the password file {self.path!r} cannot be read: {error.strerror}") from error
        except UnicodeError:
            pass
        else:
            return self
        # Not in the block above: that error holds what it could not read, and would hang on ours as its context.
        raise InvalidArgumentError(f"the password file {self.path!r} holds no UTF-8 text")
