"""Workspace: what a launching command leaves on this machine while it runs, and never afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from psbarrier.sitter import Sitter


class Workspace:
    """A private folder, and a sitter that ends the children and removes the folder however this process ends."""

    def __init__(self) -> None:
        self.sitter = Sitter()
        self._sockets = itertools.count()
        # Our own random name instead of mkdtemp: the sitter must know it before the folder exists.
        self.folder = Path(tempfile.gettempdir()) / f"psbarrier-run-{secrets.token_hex(8)}"

    def __enter__(self) -> Self:
        try:
            self.sitter.folder(self.folder)
            self.folder.mkdir(mode=0o700)
        except BaseException:
            self.sitter.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.sitter.close()

    def socket(self) -> Path:
        """A path for a socket, which no other of ours has; short, for systems limit it. Raises OSError as `write` does."""
        self._need_folder()
        return self.folder / f"s{next(self._sockets)}"

    def _need_folder(self) -> None:
        """Make the folder again if somebody has cleaned up /tmp while the job ran. Whoever was faster may be an enemy."""
        try:
            self.folder.mkdir(mode=0o700)
        except FileExistsError:
            if os.lstat(self.folder).st_uid != os.geteuid():
                raise PermissionError(f"{self.folder} has been replaced by another user's") from None

    def write(self, name: str, text: str) -> Path:
        """Write a file that only this user can read; who reads it meanwhile sees the old or the new text, whole.

        Raises OSError when it cannot be written: PermissionError when the folder has become somebody else's.
        """
        self._need_folder()
        path, new = self.folder / name, self.folder / f".{name}.{secrets.token_hex(4)}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        return path
