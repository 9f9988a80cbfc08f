"""The private folder of a launching command."""

from __future__ import annotations

import os
import shutil

import pytest

from psbarrier.cli.workspace import Workspace


def test_what_is_written_is_read_whole_by_this_user_only() -> None:
    """And is gone at the end, with its folder."""
    with Workspace() as workspace:
        path = workspace.write("cluster.json", "{}")
        assert path.read_text() == "{}"
        assert path.stat().st_mode & 0o077 == 0
        assert workspace.folder.stat().st_mode & 0o077 == 0
        assert workspace.socket() != workspace.socket()
    assert not workspace.folder.exists()


def test_a_folder_that_was_cleaned_up_is_made_again() -> None:
    """A job may run for longer than /tmp keeps its files, and then comes the next epoch."""
    with Workspace() as workspace:
        shutil.rmtree(workspace.folder)
        assert workspace.socket().parent.is_dir()
        shutil.rmtree(workspace.folder)
        assert workspace.write("cluster.json", "{}").read_text() == "{}"
        assert workspace.folder.stat().st_mode & 0o077 == 0
    assert not workspace.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that is another user's")
def test_nothing_is_written_into_a_folder_that_somebody_else_put_in_its_place() -> None:
    """He could tell the command another cluster."""
    with Workspace() as workspace:
        os.chown(workspace.folder, 12345, 12345)
        with pytest.raises(PermissionError, match="another user's"):
            workspace.write("cluster.json", "{}")
        with pytest.raises(PermissionError, match="another user's"):
            workspace.socket()
