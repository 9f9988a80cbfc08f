"""Which versions of etcd are known to have which bugs, and that a user of one is told once, and not delayed."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from guarded import guarded_etcd
from helpers import eventually
from hypothesis import given
from hypothesis import strategies as st

from psbarrier.embedded import EtcdServer
from psbarrier.store import compat, notice
from psbarrier.store.channels import Link
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.known_bugs import BUGS, Bug, cure, known_bugs, parse_version, warning
from psbarrier.store.login import Pass
from psbarrier.store.manual_clock import ManualClock
from store.helpers import soon

VERSIONS = st.tuples(st.integers(3, 4), st.integers(0, 9), st.integers(0, 60))


def text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


@given(VERSIONS, st.booleans())
def test_a_later_release_of_a_line_has_no_more_bugs(version: tuple[int, int, int], auth: bool) -> None:
    """But for those that came with it."""
    later = (*version[:2], version[2] + 1)
    new = set(known_bugs(text(later), auth=auth)) - set(known_bugs(text(version), auth=auth))
    assert all(bug.since == later for bug in new)


@given(VERSIONS)
def test_authentication_brings_bugs_and_takes_none_away(version: tuple[int, int, int]) -> None:
    """What harms without users harms with them too."""
    without, with_users = known_bugs(text(version), auth=False), known_bugs(text(version), auth=True)
    assert set(without) <= set(with_users)
    assert all(bug.needs_auth for bug in set(with_users) - set(without))


@given(VERSIONS, st.booleans())
def test_the_release_that_is_recommended_has_none_of_them(version: tuple[int, int, int], auth: bool) -> None:
    """And is no older than what runs."""
    better = cure(text(version), auth=auth)
    assert known_bugs(better, auth=auth) == ()
    assert (parse_version(better) or version) >= version


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.source)
def test_each_bug_ends_with_the_release_that_mends_it(bug: Bug) -> None:
    """In each line: the one before has it."""
    for (major, minor), patch in bug.fixed.items():
        before = (major, minor, patch - 1) if patch else (major, minor - 1, 999)
        assert bug.concerns(before)
        assert not bug.concerns((major, minor, patch))


@pytest.mark.parametrize(
    ("version", "auth", "count"),
    [("3.4.23", False, 4), ("3.5.1", False, 7), ("3.5.1", True, 14), ("3.5.30", True, 1), ("3.6.8", True, 4), ("3.7.0", True, 0)],
)  # fmt: skip
def test_versions_that_are_in_use(version: str, auth: bool, count: int) -> None:
    """A row that is added changes these numbers knowingly."""
    assert len(known_bugs(version, auth=auth)) == count


@given(st.text())
def test_whatever_etcd_calls_its_version_is_no_error(version: str) -> None:
    """A version that cannot be read has no known bugs."""
    if parse_version(version) is None:
        assert known_bugs(version, auth=True) == ()


@pytest.mark.parametrize(
    ("version", "parsed"),
    [("3.5.1", (3, 5, 1)), ("v3.6.0-rc.1", (3, 6, 0)), ("3.5.1+git", (3, 5, 1)), ("3.5", None), ("", None), ("etcd", None)],
)  # fmt: skip
def test_a_version_is_read_with_what_hangs_on_it(version: str, parsed: tuple[int, int, int] | None) -> None:
    """Pre-releases count as the release that they precede."""
    assert parse_version(version) == parsed


def test_the_warning_is_one_sentence_for_a_tired_reader() -> None:
    """How many, the first two, where the others are told, and what to do."""
    line = warning("e:2379", "3.5.1", known_bugs("3.5.1", auth=False), auth=False)
    assert re.fullmatch(
        r"etcd 3\.5\.1 at e:2379 has 7 known bugs that can harm a job: .*; .*; and 5 more, which psbarrier doctor lists\. "
        r"Upgrade it to 3\.5\.28 or later\.",
        line,
    )
    one = warning("e:1", "3.5.30", known_bugs("3.5.30", auth=True), auth=True)
    assert "has a known bug that" in one
    assert one.endswith("Upgrade it to 3.6.11 or later.")


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not talked to any etcd yet, and that asks with the first answer."""
    monkeypatch.setattr(notice, "_asked", {})
    monkeypatch.setattr(notice, "_LATER", 0.0)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[EtcdServer]:
    """An etcd whose member has a name of its own, as one that an administrator has set up."""
    monkeypatch.setattr("psbarrier.embedded.NAME", "infra0")
    with EtcdServer() as server:
        yield server


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "can harm a job" in record.getMessage()]


def test_a_stranger_is_warned_of_once_in_a_process(
    unasked: None, stranger: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    """By the first store that has an answer of it, and by no other."""
    if not known_bugs(text(stranger.version), auth=False):
        pytest.skip("this etcd has no known bugs")
    caplog.set_level(logging.WARNING, "psbarrier")
    with EtcdStore(stranger.endpoint) as one, EtcdStore(stranger.endpoint) as other:
        one.probe(until=soon(one))
        assert eventually(lambda: warnings(caplog))
        other.probe(until=soon(other))
        assert len(notice._asked) == 1
    assert len(warnings(caplog)) == 1
    assert stranger.endpoint in warnings(caplog)[0]


def test_nobody_asks_while_a_job_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start is when everybody wants something of etcd; the question comes with an answer ten seconds later, once."""
    clock, asked = ManualClock(), []
    monkeypatch.setattr(notice, "_asked", {})
    monkeypatch.setattr(notice._Question, "ask", lambda question: asked.append(clock.now()))
    watchful = notice.Notice(clock.now)
    began = clock.now()
    for seconds in (0.0, 9.0, 1.0, 1.0):
        clock.advance(seconds)
        watchful.answered(cast(Link, None), Pass(), compat.load().StatusResponse())
    assert asked == [began + 10.0]


def test_an_etcd_of_our_own_is_not_warned_of(
    unasked: None, stranger: EtcdServer, etcd: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its user did not choose the version. It is asked first, and the stranger's warning is waited for."""
    if not known_bugs(text(stranger.version), auth=False):
        pytest.skip("this etcd has no known bugs")
    caplog.set_level(logging.WARNING, "psbarrier")
    with EtcdStore(etcd.endpoint) as ours, EtcdStore(stranger.endpoint) as theirs:
        ours.probe(until=soon(ours))
        theirs.probe(until=soon(theirs))
        assert eventually(lambda: warnings(caplog))
    assert not any(etcd.endpoint in line for line in warnings(caplog))


def test_bugs_that_need_users_are_told_where_there_are_users(
    unasked: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first thing to know about an etcd that is to keep tenants apart is that it does not."""
    monkeypatch.setattr("psbarrier.embedded.NAME", "infra0")
    caplog.set_level(logging.WARNING, "psbarrier")
    with guarded_etcd(tmp_path) as etcd:
        notice._asked.clear()
        if not known_bugs(text(etcd.server.version), auth=True):
            pytest.skip("this etcd has no known bugs")
        caplog.clear()
        with etcd.root() as store:
            store.probe(until=soon(store))
            assert eventually(lambda: warnings(caplog))
    assert "a user can read and write every key" in warnings(caplog)[0]


def test_a_silent_etcd_does_not_delay_whoever_connects(unasked: None, own_etcd: EtcdServer) -> None:
    """A process whose etcd freezes right after its first answer ends without waiting for the question."""
    code = (
        "import os, signal, sys, psbarrier\n"
        "from psbarrier.store import notice\n"
        "notice._LATER = 0.0\n"
        "ask = notice._Question.ask\n"
        "def freeze(self):\n"
        "    os.kill(int(sys.argv[2]), signal.SIGSTOP)\n"
        "    ask(self)\n"
        "notice._Question.ask = freeze\n"
        "with psbarrier.connect(sys.argv[1]): print('connected', flush=True)\n"
    )
    try:
        said = subprocess.run(
            [sys.executable, "-c", code, own_etcd.endpoint, str(own_etcd.pid)],
            capture_output=True,
            text=True,
            timeout=notice._PATIENCE + 30,
        )
    finally:
        own_etcd.resume()
    assert (said.returncode, said.stdout, said.stderr) == (0, "connected\n", "")
