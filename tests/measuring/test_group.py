"""Processes that begin at one moment, and say what went wrong."""

from __future__ import annotations

import pytest

from benchmarks.group import Group, GroupError

# The parties are started in the repository's folder.
ECHO = "tests.measuring.echo"


@pytest.mark.e2e
def test_all_begin_when_told_and_tell_when_they_ended() -> None:
    """The span is from the first that began to the last that ended, by one clock; and all are gone afterwards."""
    with Group(ECHO, [["obey"], ["obey"]]) as group:
        first, second = group.together("nap"), group.together("nap")
        assert all(ended - began >= 0.05 for began, ended in zip(first.began, first.ended, strict=True))
        assert first.span == max(first.ended) - min(first.began)
        assert max(first.ended) < min(second.began)
    assert all(process.returncode == 0 for process in group.processes)


@pytest.mark.e2e
def test_a_process_that_ends_is_named_with_its_last_words() -> None:
    """And the others do not stay behind."""
    with pytest.raises(GroupError, match=r"(?s)^process 1 of 2 \(tests.measuring.echo end\) .*no etcd there"):
        Group(ECHO, [["obey"], ["end"]]).__enter__()


@pytest.mark.e2e
def test_a_process_that_hangs_is_ended() -> None:
    """A benchmark never waits for ever."""
    group = Group(ECHO, [["hang"]], patience=0.5)
    with pytest.raises(GroupError, match="process 0 of 1"):
        group.__enter__()
    assert group.processes[0].returncode is not None
