"""psbarrier doctor: each thing that can be wrong is named, with what to do, in time and with the job's own exit code."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from click.testing import Result
from guarded import Guarded, guarded_etcd
from helpers import eventually
from store.certificates import Authority

from cli.helpers import invoke, keys, unique
from psbarrier.account import Account, ensure
from psbarrier.doctor import address, reach, server
from psbarrier.doctor.errand import within
from psbarrier.doctor.finding import Place
from psbarrier.embedded import EtcdServer, free_ports
from psbarrier.errors import StoreRefusedError
from psbarrier.etcd_cluster import EtcdCluster
from psbarrier.protocol.keys import JobKeys
from psbarrier.store.base import Put, Txn
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.maintenance import ServerStatus
from psbarrier.store.tls import TLS

pytestmark = pytest.mark.e2e

LIMIT = 20.0
"""Seconds that the whole may take at most."""


@frozen
class Told:
    """What `psbarrier doctor --json` said."""

    code: int
    findings: list[dict[str, Any]]
    seconds: float

    def of(self, check: str, where: str = "") -> dict[str, Any]:
        """The one finding of a check, in places that begin with `where`."""
        found = [each for each in self.findings if each["check"] == check and each["where"].startswith(where)]
        assert len(found) == 1, self.findings
        return found[0]

    def all(self, verdict: str) -> list[str]:
        """The checks that ended so, but for the loopback address, which every test has, and for the version."""
        return [
            each["check"]
            for each in self.findings
            if each["verdict"] == verdict and not each["where"].startswith("address") and each["check"] != "version"
        ]


def doctor(*arguments: str) -> Told:
    started = time.monotonic()
    result = invoke(None, "doctor", "--json", *arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found = json.loads(result.stdout)
    assert found["exit_code"] == result.exit_code
    told = Told(result.exit_code, found["findings"], time.monotonic() - started)
    assert told.seconds < LIMIT
    return told


def text(*arguments: str) -> Result:
    return invoke(None, "doctor", *arguments)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With a user for the job `ctr`."""
    with guarded_etcd(tmp_path_factory.mktemp("guarded")) as found:
        with found.root() as root:
            ensure(root, Account.of(JobKeys("/psbarrier", "ctr"), "ctr"), lambda: "secret")
        yield found


class TestHealthy:
    """Where a job would run."""

    def test_everything_is_tried_and_nothing_is_left(self, etcd: EtcdServer) -> None:
        """Every check is fine, and the probe key is gone."""
        job = unique()
        told = doctor(job, "--endpoints", etcd.endpoint)
        assert told.code == 0
        assert told.all("warning") == told.all("problem") == told.all("skipped") == []
        for check in ("read keys", "lease", "watch", "write", "nested", "event", "delete"):
            assert told.of(check)["where"] == f"keys /psbarrier/{job}/"
        assert keys(etcd, job) == keys(etcd, "psbarrier-doctor") == ()

    def test_people_get_one_line_for_each(self, etcd: EtcdServer) -> None:
        """With a verdict first, and the whole in a word at the end."""
        lines = text("--endpoints", etcd.endpoint, "--address", "127.0.0.1:9").stdout.splitlines()
        assert "  ok       connection  accepted in" in "\n".join(lines)
        assert lines[-1].startswith("nothing here would stop a job")

    def test_known_bugs_are_listed_with_their_sources(self, etcd: EtcdServer) -> None:
        """And the version to go to."""
        if etcd.version[:2] > (3, 6):
            pytest.skip("this etcd has no known bugs")
        told = doctor("--endpoints", etcd.endpoint)
        assert "upgrade to" in told.of("version")["advice"]
        assert all("pull request" in each["said"] for each in told.findings if each["check"] == "bug")

    def test_a_database_that_is_nearly_full_is_a_warning(self) -> None:
        """While it can still be written to; and a quota that is not known is said to be so."""
        status = ServerStatus("e:1", "3.5.1", 1, 1, 1, 1, size=2**20, in_use=2**19)
        nearly, half, unknown = (server._space(Place("e:1"), status, quota) for quota in (1_200_000, 2**21, 0))
        assert (nearly.verdict.value, half.verdict.value, unknown.verdict.value) == ("warning", "ok", "ok")
        assert nearly.said == "1.0 MiB, 0.5 MiB in use: 87% of the quota of 1.1 MiB"
        assert "compact" in nearly.advice
        assert "not known" in unknown.said

    def test_clocks_that_differ_are_told(self, etcd: EtcdServer) -> None:
        """etcd's answers over HTTP bear its time, in whole seconds."""
        date = "Tue, 24 Nov 2026 07:00:00 GMT"
        assert doctor("--endpoints", etcd.endpoint).of("clock")["said"] == "as this machine's"
        told = 1795503600.0
        assert server._ahead(date, told + 0.9, told + 0.9) == 0
        assert server._ahead(date, told + 61, told + 62) == 60
        assert server._ahead(date, told - 62, told - 60) == -60
        assert server._ahead(None, told, told) is server._ahead("yesterday", told, told) is None
        assert server._clock(Place("e:1"), -60).said == "this machine's is 60 s behind it"
        assert server._clock(Place("e:1"), 60).verdict.value == "warning"


class TestUnreachable:
    """112, and why."""

    def test_nobody_there(self) -> None:
        """The step that failed is named; none is tried after it."""
        for endpoint, check, said in (
            (f"127.0.0.1:{free_ports(1)[0]}", "connection", "refused: nobody listens"),
            ("no-such-host.invalid:2379", "name", "'no-such-host.invalid' is not known here"),
        ):
            told = doctor("--endpoints", endpoint)
            assert told.code == 112
            assert said in told.of(check, endpoint)["said"]
            assert told.all("problem") == [check]
            assert told.all("skipped") == ["rights"]

    def test_a_web_server_is_no_etcd(self) -> None:
        """A mistaken port is the likeliest cause."""
        with HTTPServer(("127.0.0.1", 0), Quiet) as web:
            thread = threading.Thread(target=web.serve_forever, daemon=True)
            thread.start()
            told = doctor("--endpoints", f"127.0.0.1:{web.server_port}")
            web.shutdown()
            thread.join()
        assert told.code == 112
        assert told.of("protocol")["said"] == "a web server answers, and no etcd"
        assert "2379" in told.of("protocol")["advice"]

    def test_a_server_that_hangs_up_is_no_etcd(self) -> None:
        """Neither in plain text, nor with TLS."""
        with socket.create_server(("127.0.0.1", 0)) as listener, answering(listener, b"") as endpoint:
            assert doctor("--endpoints", endpoint).of("protocol")["said"] == "the connection is closed at once"
        with socket.create_server(("127.0.0.1", 0)) as listener, answering(listener, b"220 mail ready") as endpoint:
            assert doctor("--endpoints", endpoint).of("protocol")["said"] == "something answers that is no etcd"

    def test_a_frozen_etcd_is_told_in_time(
        self, own_etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It accepts connections, since the kernel does, and says nothing."""
        monkeypatch.setattr(reach, "PATIENCE", 1.0)
        stranger = Authority(tmp_path, "any")
        own_etcd.pause()
        try:
            plain = doctor("--endpoints", own_etcd.endpoint)
            secure = doctor("--endpoints", own_etcd.endpoint, "--ca", str(stranger.certificate))
        finally:
            own_etcd.resume()
        assert plain.code == secure.code == 112
        for finding in (plain.of("protocol"), secure.of("TLS")):
            assert "nothing is said for 1 s" in finding["said"]
            assert "it hangs" in finding["advice"]


class Quiet(BaseHTTPRequestHandler):
    """A web server that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Not to the test's output."""


@contextmanager
def answering(listener: socket.socket, words: bytes) -> Iterator[str]:
    """Every client of `listener` is told so and hung up on."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                client.sendall(words)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


class TestTLS:
    """Each way in which two sides do not come together."""

    def test_the_right_certificates_are_believed_and_their_end_is_told(self, guarded: Guarded) -> None:
        """The test's own last an hour, so there is a warning."""
        finding = doctor("ctr", *guarded.login("ctr", "secret")).of("TLS")
        assert finding["verdict"] == "warning"
        assert "is believed, for 1.0 h more" in finding["said"] or "for 0.9 h more" in finding["said"]

    def test_plain_text_to_tls(self, guarded: Guarded) -> None:
        """The option that is missing is named."""
        told = doctor("--endpoints", guarded.server.endpoint)
        assert (told.code, told.of("protocol")["said"]) == (112, "the server speaks TLS, and we do not")
        assert "--ca" in told.of("protocol")["advice"]

    def test_tls_to_plain_text(self, etcd: EtcdServer, guarded: Guarded) -> None:
        """The options that are too many are named."""
        told = doctor("--endpoints", etcd.endpoint, "--ca", str(guarded.authority.certificate))
        assert (told.code, told.of("TLS")["said"]) == (112, "the server speaks plain text, and we speak TLS")

    def test_another_authority(self, guarded: Guarded, tmp_path: Path) -> None:
        """Whose certificate is to be given."""
        stranger = Authority(tmp_path, "stranger")
        told = doctor("--endpoints", guarded.server.endpoint, "--ca", str(stranger.certificate))
        assert told.code == 112
        assert "is not believed" in told.of("TLS")["said"]
        assert "--ca" in told.of("TLS")["advice"]

    def test_another_name(self, guarded: Guarded) -> None:
        """Under which this machine can be reached, and which is not in the certificate."""
        name = socket.gethostname()
        port = guarded.server.endpoint.rpartition(":")[2]
        if "127.0.0.1" not in reach.look(f"{name}:{port}", None)[0].said:
            pytest.skip("this machine's name does not lead to 127.0.0.1")
        told = doctor("--endpoints", f"{name}:{port}", "--ca", str(guarded.authority.certificate))
        assert (told.code, told.of("TLS")["said"]) == (112, f"the server's certificate is not for {name!r}")

    def test_an_expired_certificate(self, tmp_path: Path) -> None:
        """Or a clock that is wrong."""
        authority = Authority(tmp_path, "authority")
        cert, key = authority.issue("server", hours=-1)
        with EtcdServer(extra_args=[f"--cert-file={cert}", f"--key-file={key}"]) as etcd:
            told = doctor("--endpoints", etcd.endpoint, "--ca", str(authority.certificate))
        assert (told.code, told.of("TLS")["said"]) == (112, "the server's certificate has expired")
        assert "clock" in told.of("TLS")["advice"]

    def test_a_server_that_wants_to_know_us(self, tmp_path: Path) -> None:
        """Without a certificate, with one that has expired, and with the right one."""
        authority = Authority(tmp_path, "authority")
        cert, key = authority.issue("server")
        flags = [f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={authority.certificate}"]
        with EtcdServer(extra_args=[*flags, "--client-cert-auth"]) as etcd:
            way = ("--endpoints", etcd.endpoint, "--ca", str(authority.certificate))
            old, good = authority.issue("old", hours=-1), authority.issue("good")
            for extra in ((), ("--cert", str(old[0]), "--key", str(old[1]))):
                finding = doctor(*way, *extra).of("TLS")
                assert finding["said"].startswith("the server refuses us")
                assert "--cert and --key" in finding["advice"]
            assert doctor(*way, "--cert", str(good[0]), "--key", str(good[1])).code == 0

    def test_files_that_are_no_certificates(self, etcd: EtcdServer, tmp_path: Path) -> None:
        """2: this can never work."""
        (tmp_path / "ca").write_text("nonsense")
        told = doctor("--endpoints", etcd.endpoint, "--ca", str(tmp_path / "ca"))
        assert told.code == 2
        assert "cannot be used" in told.of("TLS")["said"]


def fill(store: EtcdStore) -> None:
    for number in range(100):
        store.txn(Txn(then=(Put(f"/other/{number}", os.urandom(100_000)),)), until=store.clock.now() + 20)


class TestRefused:
    """113, and what to ask an administrator for."""

    def test_a_wrong_password(self, guarded: Guarded) -> None:
        """Which is not shown."""
        result = text(*guarded.login("root", "nonsense"))
        assert result.exit_code == 113
        assert "as 'root': etcd refuses: authentication failed" in result.stdout
        assert "nonsense" not in result.output

    def test_no_login(self, guarded: Guarded) -> None:
        """Where one is asked for."""
        told = doctor(*guarded.way)
        assert (told.code, told.of("login")["said"]) == (113, "etcd asks who we are")

    def test_no_rights(self, guarded: Guarded) -> None:
        """Not on another job, nor on all of the prefix; on its own, all of them."""
        login = guarded.login("ctr", "secret")
        other, everything, own = doctor("other", *login), doctor(*login), doctor("ctr", *login)
        assert (other.code, everything.code, own.code) == (113, 113, 0)
        assert other.all("problem") == everything.all("problem") == ["read keys"]
        assert "psbarrier doctor JOB" in everything.of("read keys")["advice"]
        assert own.of("login")["said"] == "as 'ctr'"

    def test_rights_to_read_only(self, guarded: Guarded) -> None:
        """The write is what fails, and nothing is written."""
        with guarded.root() as root:
            until = root.clock.now() + 20
            permission = Account.of(JobKeys("/psbarrier", "reader")).permission
            for step in (
                lambda: root.accounts.add_role("reader", until),
                lambda: root.accounts.permit("reader", type(permission)(permission.key, permission.end, "read"), until),
                lambda: root.accounts.add_user("reader", "secret", until),
                lambda: root.accounts.give("reader", "reader", until),
            ):
                step()
        told = doctor("reader", *guarded.login("reader", "secret"))
        assert (told.code, told.all("problem")) == (113, ["write"])

    def test_no_space(self) -> None:
        """The alarm is told, and how to end it; and the quota that etcd was given, which before 3.6 its metrics tell."""
        with EtcdServer(extra_args=["--quota-backend-bytes=1000000"]) as etcd:
            with EtcdStore(etcd.endpoint) as store, pytest.raises(StoreRefusedError):
                fill(store)
            told = doctor("--endpoints", etcd.endpoint)
        assert told.code == 113
        assert told.of("alarms")["said"].startswith("NOSPACE")
        assert "etcdctl alarm disarm" in told.of("alarms")["advice"]
        assert told.of("space")["said"].endswith("of the quota of 1.0 MiB")

    def test_authentication_that_is_not_enabled(self, tmp_path: Path) -> None:
        """A login that nobody asks for is a warning: nothing is protected."""
        with guarded_etcd(tmp_path, enable=False) as etcd:
            told = doctor(*etcd.login("anybody", "anything"))
        assert (told.code, told.of("login")["verdict"]) == (0, "warning")


class TestSeveral:
    """Endpoints together."""

    def test_two_clusters_are_two_jobs(self, etcd: EtcdServer, own_etcd: EtcdServer) -> None:
        """Tasks would wait for each other in vain."""
        told = doctor("--endpoints", f"{etcd.endpoint},{own_etcd.endpoint}")
        assert (told.code, told.all("problem")) == (2, ["cluster"])

    def test_one_of_three_may_fail_and_two_may_not(self) -> None:
        """The first is a warning; the second a lost quorum, told by whoever is left."""
        with EtcdCluster(links=False) as cluster:
            cluster.wait_ready()
            dead = cluster.members[cluster.kill_leader()].endpoint
            cluster.leader()
            one = doctor("--endpoints", cluster.endpoints)
            assert one.code == 0
            assert one.of("connection", dead)["verdict"] == "warning"
            assert one.of("endpoints")["said"] == "a job can use 2 of 3"
            left, other = (member for member in cluster.members if member.pid is not None)
            other.kill()
            assert eventually(lambda: (status := left.status()) is not None and not status.leader)
            two = doctor("--endpoints", cluster.endpoints)
        assert two.code == 112
        assert two.of("leader")["said"] == "none: the cluster has lost its quorum"
        assert two.of("connection", dead)["verdict"] == "problem"


class TestAddress:
    """Whether others could reach a task here; without etcd."""

    def test_loopback_is_for_this_machine(self) -> None:
        """By number, and by a name that means it."""
        for host in ("127.0.0.1", "localhost"):
            name, listening = address.examine(f"{host}:{free_ports(1)[0]}", ())
            assert name.verdict.value == "warning"
            assert "only this machine can reach" in name.said
            assert listening.verdict.value == "ok"

    @pytest.mark.parametrize(
        ("given", "check", "verdict", "said"),
        [
            ("0.0.0.0:2222", "name", "problem", "every address and is none"),
            ("169.254.1.1:2222", "name", "warning", "link-local"),
            ("no-such-host.invalid:2222", "name", "problem", "is not known here"),
            ("nonsense", "name", "problem", "is not 'host:port'"),
        ],
    )
    def test_what_others_cannot_use(self, given: str, check: str, verdict: str, said: str) -> None:
        """With the reason."""
        first = address.examine(given, ())[0]
        assert (first.check, first.verdict.value) == (check, verdict)
        assert said in first.said

    def test_an_address_of_nobody_here(self) -> None:
        """192.0.2.0/24 is for documentation: no machine has it. Behind NAT it may be right, so it is a warning."""
        _, listening = address.examine("192.0.2.1:2222", ())
        assert listening.verdict.value == "warning"
        assert "not an address of this machine" in listening.said

    def test_a_port_that_is_taken(self) -> None:
        """Well if it is the task itself."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            _, listening = address.examine(f"127.0.0.1:{listener.getsockname()[1]}", ())
        assert "already listens" in listening.said

    def test_an_address_that_can_never_work_is_a_usage_error(self, etcd: EtcdServer) -> None:
        """2, though etcd is well."""
        assert doctor("--endpoints", etcd.endpoint, "--address", "0.0.0.0:1").code == 2

    def test_without_one_it_is_what_join_would_choose(self, etcd: EtcdServer) -> None:
        """On the route to etcd."""
        told = doctor("--endpoints", etcd.endpoint)
        assert any(each["where"].startswith("address 127.0.0.1:") for each in told.findings)


def test_nonsense_is_a_usage_error() -> None:
    """Before anything is asked."""
    assert text("a b", "--endpoints", "h:1").exit_code == 2
    assert text().exit_code == 2
    assert text("--endpoints", "h:1", "--user", "u").exit_code == 2


def test_what_cannot_be_ended_is_left_alone() -> None:
    """A resolver that hangs holds up nobody."""
    gone = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: gone.wait(60))
    gone.set()
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_a_missing_file_is_told_as_such(tmp_path: Path) -> None:
    """As when a mounted secret is not there (yet)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        finding = reach.look(f"127.0.0.1:{listener.getsockname()[1]}", TLS(tmp_path / "none.pem"))[-1]
    assert "No such file or directory" in finding.said
