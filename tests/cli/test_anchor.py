"""The end of the tether that `psbarrier run` holds."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import call, returned

from psbarrier.cli.anchor import Anchor
from psbarrier.tether import Tether


@pytest.fixture
def path() -> Iterator[Path]:
    """Short, for systems limit the length of a socket's path."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "s"


def test_it_closes_when_nobody_ever_came(path: Path) -> None:
    """And once more, and leaves no socket behind."""
    anchor = Anchor(path, lambda: None)
    for _ in range(2):
        returned(call(anchor.close))
    assert not path.exists()


def test_it_closes_after_the_temporary_folder_was_cleaned_up(path: Path) -> None:
    """A job may run for longer than /tmp keeps its files."""
    anchor = Anchor(path, lambda: None)
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    returned(call(anchor.close))


def test_it_closes_while_a_process_is_tied_to_it(path: Path) -> None:
    """Which then hears of its end, as of a death."""
    tied, let_go = threading.Event(), threading.Event()
    anchor = Anchor(path, tied.set)
    tether = Tether.tie(os.fspath(path), let_go.set)
    assert tied.wait(30)
    returned(call(anchor.close))
    assert let_go.wait(30)
    tether.close()
