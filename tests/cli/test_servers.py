"""psbarrier status --server: how each etcd is, as far as it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guarded import guarded_etcd

from cli.helpers import invoke, unique
from psbarrier import join
from psbarrier.cli.tables import duration, size
from psbarrier.doctor import connector
from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.store import compat
from psbarrier.store.maintenance import status_of


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not hope for three seconds that somebody comes to listen at a dead endpoint."""
    monkeypatch.setattr(connector, "PATIENCE", 1.0)


def test_each_endpoint_has_a_line_though_it_is_dead(etcd: EtcdServer, hasty: None) -> None:
    """No job is needed; the dead one says why."""
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    way = ("--server", "--endpoints", f"{etcd.endpoint},{dead}")
    version = ".".join(map(str, etcd.version))
    heading, one, other = invoke(None, "status", *way).stdout.splitlines()
    assert heading.split() == ["ENDPOINT", "ETCD", "ROLE", "DATABASE", "ALARMS", "CLUSTER"]
    assert one.split()[:3] == [etcd.endpoint, version, "leader"]
    assert other.split(maxsplit=2)[2].startswith("connection refused")
    told = json.loads(invoke(None, "status", *way, "--json").stdout)["servers"]
    assert (told[0]["version"], told[0]["alarms"]) == (version, [])
    assert told[0]["member"] == told[0]["leader"]
    assert int(told[0]["cluster"], 16) > 0
    assert told[1] == {"endpoint": dead, "problem": "connection refused"}


def test_none_that_answers_is_an_etcd_that_cannot_be_reached(hasty: None) -> None:
    """112, with the reasons."""
    result = invoke(None, "status", "--server", "--endpoints", f"127.0.0.1:{free_ports(1)[0]}")
    assert result.exit_code == 112
    assert "connection refused" in result.stderr


def test_with_a_job_both_are_shown(etcd: EtcdServer) -> None:
    """The servers above; in one object for programs."""
    job = unique()
    with join(etcd.endpoint, job, "worker", 0, replicas={"worker": 1}, address="h:1") as me:
        me.cluster(30)
        lines = invoke(etcd, "status", job, "--server").stdout
        told = json.loads(invoke(etcd, "status", job, "--server", "--json").stdout)
    assert lines.index("ENDPOINT") < lines.index(f"job {job}")
    assert (told["job"], len(told["servers"])) == (job, 1)


def test_neither_job_nor_server_is_a_usage_error(etcd: EtcdServer) -> None:
    """It says what could be meant."""
    result = invoke(etcd, "status")
    assert (result.exit_code, result.stderr) == (2, "psbarrier: name a job, or pass --server\n")


def test_who_has_no_rights_still_sees_how_etcd_is(tmp_path: Path) -> None:
    """Without a login, and with one that is wrong: somebody must be able to look."""
    with guarded_etcd(tmp_path) as etcd:
        for way in (etcd.way, etcd.login("nobody", "nothing")):
            assert "leader" in invoke(None, "status", "--server", *way).stdout


def test_what_newer_servers_add_is_read_and_what_older_ones_lack_is_zero() -> None:
    """The generated messages do not know these fields, and must not lose them."""
    rpc = compat.load()
    known = rpc.StatusResponse(version="3.6.9", dbSize=10, leader=2)
    known.header.cluster_id = 2**64 - 1
    old = status_of("e:1", known)
    assert (old.cluster, old.in_use, old.quota, old.alarms, old.learner) == (2**64 - 1, 0, 0, (), False)
    text = b"memberID:1 alarm:NOSPACE "
    added = b"\x42" + bytes([len(text)]) + text + b"\x48\x05" + b"\x50\x01" + b"\x60\x64"  # fields 8, 9, 10 and 12
    added += b"\x42\x15etcdserver: no leader"
    new = status_of("e:1", rpc.StatusResponse.FromString(known.SerializeToString() + added))
    assert (new.in_use, new.quota, new.alarms, new.learner) == (5, 100, ("NOSPACE",), True)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (2**21, "2.0 MiB"), (2**60, "1048576.0 TiB")]
)
def test_sizes_are_for_people(count: int, words: str) -> None:
    """With the unit that fits."""
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0s"), (59.9, "59s"), (3600, "1h"), (90061, "1d 1h"), (61, "1m 1s")]
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    """In two units."""
    assert duration(seconds) == words
