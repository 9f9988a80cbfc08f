"""Names in addresses: a command that looks them up once does so after they can be found."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cli.helpers import finished, run_args, unique
from psbarrier.cli.names import resolves, wait_for_names
from psbarrier.embedded import EtcdServer
from psbarrier.errors import GateTimeoutError
from psbarrier.flows.effects import Progress
from psbarrier.spec import ClusterSpec, host_of

SPEC = ClusterSpec.from_addresses({"ps": ["10.0.0.1:1", "[fd00::1]:1"], "worker": ["ctr-0.ctr:1", "ctr-1.ctr:1"]})


def tell(progress: Progress) -> None:
    raise AssertionError(progress)


def test_each_name_is_looked_up_until_it_is_there_and_no_address_is() -> None:
    """As the DNS comes to know one Pod after the other."""
    asked: list[str] = []

    def known(host: str) -> bool:
        asked.append(host)
        return host == "ctr-0.ctr" or asked.count(host) == 3

    wait_for_names(SPEC, 60, tell, threading.Event(), known=known)
    assert sorted(asked) == ["ctr-0.ctr"] + ["ctr-1.ctr"] * 3


def test_a_name_that_does_not_come_is_said_with_its_task() -> None:
    """At the deadline of the gate."""
    with pytest.raises(GateTimeoutError, match=r"worker/1.*its name 'ctr-1\.ctr' cannot be resolved") as caught:
        wait_for_names(SPEC, 0, tell, threading.Event(), known=lambda host: host == "ctr-0.ctr")
    assert set(caught.value.missing) == {"worker/1"}


def test_nobody_looks_for_names_any_more_who_is_to_end() -> None:
    """Whatever else is missing."""
    stop = threading.Event()
    stop.set()
    wait_for_names(SPEC, 60, tell, stop, known=lambda host: False)


def test_what_the_system_knows_is_known() -> None:
    """By its own resolver."""
    assert resolves("localhost")
    assert not resolves("no-such-host.invalid")
    assert host_of("[fd00::1]:2222") == "fd00::1"


@pytest.mark.e2e
def test_run_waits_for_names_where_that_is_wanted(etcd: EtcdServer, tmp_path: Path) -> None:
    """And gives up with the gate's exit code; by default it starts its command at once."""
    for more, host, code in (("--resolve",), "localhost", 0), (("--resolve",), "x.invalid", 111), ((), "x.invalid", 0):
        options = ("--address", f"{host}:1", "--gate-timeout", "1", *more)
        done = finished(tmp_path, etcd, *run_args(unique(), *options), "true")
        assert done.process.returncode == code, done.text
