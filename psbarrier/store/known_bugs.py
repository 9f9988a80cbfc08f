"""What is known to be wrong in versions of etcd, as far as it matters to psbarrier. Pure.

Each row says in which release of each line the bug was fixed, and which document of etcd's says so. A line that a row does
not name is not affected where it is newer than all that are named, and affected where it is older: etcd mends the lines
that it supports, and the others stay as they are.

The sources are etcd's own: the changelogs (https://github.com/etcd-io/etcd/tree/main/CHANGELOG, cited by pull request) and
the security advisories (https://github.com/etcd-io/etcd/security/advisories, cited by their GHSA names).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import field, frozen

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?![0-9])", re.ASCII)

Version = tuple[int, int, int]
Line = tuple[int, int]


@frozen
class Bug:
    """One bug: what it does to a job, and, for each line of releases, the first one without it.

    `since` is the first release that has it. `needs_auth`: it does harm only where authentication is enabled.
    """

    harm: str
    source: str
    fixed: Mapping[Line, int] = field(hash=False)
    since: Version = (0, 0, 0)
    needs_auth: bool = False

    def concerns(self, version: Version) -> bool:
        """Whether that release has it."""
        line, patch = version[:2], version[2]
        if version < self.since:
            return False
        return patch < self.fixed[line] if line in self.fixed else line < max(self.fixed)

    @property
    def releases(self) -> str:
        """The releases that mend it, for people."""
        return ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in sorted(self.fixed.items()))


BUGS = (
    Bug(
        "a user can read and write every key by nesting transactions, so users do not keep jobs apart",
        "GHSA-rfx7-8w68-q57q (CVE-2026-33343)",
        {(3, 4): 42, (3, 5): 28, (3, 6): 9},
        needs_auth=True,
    ),
    Bug(
        "a put within a transaction can read, and bind to a lease, a key that the user has no right to",
        "GHSA-x35m-3gp4-4fh5 (CVE-2026-44283)",
        {(3, 4): 44, (3, 5): 30, (3, 6): 11},
        needs_auth=True,
    ),
    Bug(
        "nobody needs to log in to grant leases, to list the members, or to raise and clear alarms",
        "GHSA-q8m4-xhhv-38mg (CVE-2026-33413)",
        {(3, 4): 42, (3, 5): 28, (3, 6): 9},
        needs_auth=True,
    ),
    Bug(
        "while an alarm is raised, and a full database is enough, any user can delete any key and change users and rights",
        "pull request 22386, which no release of the older lines had when this was written",
        {(3, 6): 0},
        needs_auth=True,
    ),
    Bug(
        "a user can see the names of the keys on a lease without any right to them",
        "pull requests 15814 and 15815",
        {(3, 4): 26, (3, 5): 9},
        needs_auth=True,
    ),
    Bug(
        "a watch that is refused silences another watch of the same process",
        "pull requests 14562 and 14563",
        {(3, 4): 22, (3, 5): 6},
        needs_auth=True,
    ),
    Bug(
        "a member that restarts may forget users and rights",
        "pull requests 14409 and 14410",
        {(3, 4): 21, (3, 5): 5},
        needs_auth=True,
    ),
    Bug(
        "a member that is killed under load may come back with data that differs from the others'",
        "pull request 13908",
        {(3, 5): 3},
        since=(3, 5, 0),
    ),
    Bug(
        "an etcd of one member that crashes may lose what it had confirmed",
        "pull requests 14423 and 14424",
        {(3, 4): 21, (3, 5): 5},
    ),
    Bug(
        "etcd crashes when a deadline passes, or a client dies, in the middle of a transaction that only reads",
        "pull requests 14178 and 14899",
        {(3, 5): 7},
        since=(3, 5, 0),
    ),
    Bug(
        "after a change of etcd's leader the old one may revoke live leases, so that healthy tasks are lost",
        "pull requests 17425 and 17465",
        {(3, 4): 31, (3, 5): 13},
    ),
    Bug(
        "a compaction may lose events of a watch, so that a member misses a change until the next one",
        "pull requests 17610 and 17612",
        {(3, 4): 31, (3, 5): 13},
    ),
    Bug(
        "a keep-alive may be confirmed for a lease that was revoked, so that a lost task learns of it late",
        "pull requests 20615, 20616 and 20813",
        {(3, 4): 38, (3, 5): 23, (3, 6): 5},
    ),
    Bug(
        "a member that was paused, or has just lost the leadership, may answer a read with old data",
        "pull requests 21378, 21417 and their backports",
        {(3, 4): 42, (3, 5): 28, (3, 6): 9},
    ),
)


def parse_version(text: str) -> Version | None:
    """The release that "3.5.1", "v3.5.1" or "3.6.0-rc.1" names (the last one: 3.6.0); None for anything else."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def known_bugs(version: str, *, auth: bool) -> tuple[Bug, ...]:
    """What is wrong in that release; nothing for one that is not known. `auth`: whether authentication is enabled."""
    parsed = parse_version(version)
    return () if parsed is None else tuple(b for b in BUGS if b.concerns(parsed) and (auth or not b.needs_auth))


def cure(version: str, *, auth: bool) -> str:
    """The first release from that one on that has none of the bugs, of the same line if there is one."""
    parsed = parse_version(version)
    assert parsed is not None
    bugs = [bug for bug in BUGS if auth or not bug.needs_auth]
    lines = sorted({line for bug in bugs for line in bug.fixed} | {parsed[:2]})
    mended = [
        release
        for line in lines
        if (release := _newest_mended(bugs, line, parsed)) >= parsed and not any(bug.concerns(release) for bug in bugs)
    ]
    return ".".join(str(part) for part in mended[0])


def _newest_mended(bugs: Iterable[Bug], line: Line, running: Version) -> Version:
    """The release of a line in which the last of these bugs is mended that ever is in that line."""
    patches = [bug.fixed[line] for bug in bugs if line in bug.fixed]
    return (*line, max([*patches, running[2] if line == running[:2] else 0]))


def warning(endpoint: str, version: str, bugs: tuple[Bug, ...], *, auth: bool, shown: int = 2) -> str:
    """One line about an etcd that has these bugs."""
    more = f"; and {len(bugs) - shown} more, which psbarrier doctor lists" if len(bugs) > shown else ""
    told = "; ".join(bug.harm for bug in bugs[:shown])
    count = "a known bug" if len(bugs) == 1 else f"{len(bugs)} known bugs"
    return (
        f"etcd {version} at {endpoint} has {count} that can harm a job: {told}{more}. "
        f"Upgrade it to {cure(version, auth=auth)} or later."
    )
