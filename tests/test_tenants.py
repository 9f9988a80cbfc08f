"""Two jobs, each with an etcd user of its own: each works, and neither can get at the other's keys.

The jobs are named so that each one's name begins with another's: job1 and job10, a and a.b and a-b.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cli.helpers import invoke, psbarrier, run_args
from guarded import Guarded, guarded_etcd
from jobs import call, returned
from store.helpers import Beats, Recorder

from psbarrier import Member, join
from psbarrier.account import Account, ensure
from psbarrier.errors import LeaseNotFoundError, StoreRefusedError
from psbarrier.protocol.keys import JobKeys
from psbarrier.store import compat
from psbarrier.store.base import Compare, Delete, Op, Put, Range, Txn, prefix_end
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.known_bugs import BUGS, known_bugs

pytestmark = pytest.mark.e2e

JOBS = ("job1", "job10", "a", "a.b", "a-b")
NEIGHBOURS = [(one, other) for one in JOBS for other in JOBS if one != other and other.startswith(one)]
NEIGHBOURS += [(other, one) for one, other in NEIGHBOURS]
TWO = {"worker": 2}
BY_AN_ALARM = next(bug for bug in BUGS if "22386" in bug.source)


def password(job: str) -> str:
    return f"secret of {job}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Every job has its user, and the administrator has written a key into each."""
    with guarded_etcd(tmp_path_factory.mktemp("guarded")) as found:
        with found.root() as root:
            for job in JOBS:
                ensure(root, Account.of(JobKeys("/psbarrier", job)), lambda job=job: password(job))  # type: ignore[misc]
                root.txn(Txn(then=(Put(secret(job), b"x"),)), until=root.clock.now() + 20)
        yield found


def secret(job: str) -> str:
    return f"/psbarrier/{job}/secret"


def tenant(guarded: Guarded, job: str) -> EtcdStore:
    return guarded.store(f"psbarrier-{job}", password(job))


def login(guarded: Guarded, job: str) -> tuple[str, ...]:
    return guarded.login(f"psbarrier-{job}", password(job))


@contextmanager
def whole_job(guarded: Guarded, job: str, run: str) -> Iterator[list[Member]]:
    """Both workers, past the gate; each has a store of its own."""
    with ExitStack() as stack:
        members = []
        for index in range(2):
            store = stack.enter_context(tenant(guarded, job))
            member = join(store, job, "worker", index, replicas=TWO, address="h:1", run=run, timeout=30)
            stack.callback(member.close)
            members.append(member)
        for member in members:
            member.cluster(30)
        yield members


@pytest.mark.parametrize("job", JOBS)
def test_a_whole_job_needs_no_right_outside_of_its_prefix(guarded: Guarded, job: str) -> None:
    """Join, gate, barrier, share, status, wait, and the end."""
    with whole_job(guarded, job, "library") as (one, two):
        waiting = [call(member.barrier("epoch").wait, 30) for member in (one, two)]
        assert sorted(returned(each) for each in waiting) == [0, 1]
        one.share("path", "/data")
        assert two.get("path", 30) == "/data"
        way = login(guarded, job)
        assert f"job {job}, run library" in invoke(None, "status", job, *way).stdout
        assert invoke(None, "spec", job, "--run", "library", *way).exit_code == 0
        assert invoke(None, "wait", "--for", "role=worker", job, *way).exit_code == 0
        assert invoke(None, "wait", "--for", "store", *way).exit_code == 0
        one.finish()
        two.finish()
        assert one.wait_job(30).phase == "succeeded"
    assert invoke(None, "wait", "--for", "succeeded", job, "--run", "library", *way).exit_code == 0


def test_every_command_works_under_such_a_user(guarded: Guarded, tmp_path: Path) -> None:
    """Those that start processes too: run, and local with the endpoints of an etcd that is there."""
    way = login(guarded, "job1")
    command = (sys.executable, "-c", "import psbarrier; psbarrier.join().finish()")
    run = run_args("job1", "--run", "cli", *way)
    with psbarrier(tmp_path, None, *run, *command) as ran:
        assert ran.code() == 0, ran.text
    with psbarrier(tmp_path, None, "local", "--worker", "2", "--job", "job1", *way, "--", "true") as ran:
        assert ran.code() == 0, ran.text
    with whole_job(guarded, "job1", "aborted") as (one, _):
        said = invoke(None, "abort", "job1", "--run", "aborted", *way)
        assert said.stdout == "job 'job1' is aborted (run 'aborted')\n"
        assert one.wait_job(30).phase == "failed"


def refused(attempt: Callable[[], Any]) -> bool:
    """Whether etcd refuses it for want of rights."""
    try:
        attempt()
    except StoreRefusedError as error:
        return "permission denied" in str(error)
    return False


def attempts(other: str) -> dict[str, Callable[[EtcdStore, float], Any]]:
    """Ways to get at another job's keys, none of them nested."""
    key, root = secret(other), f"/psbarrier/{other}/"
    mine = "/psbarrier/"  # a range that holds both jobs

    def sends(txn: Txn) -> Callable[[EtcdStore, float], Any]:
        return lambda store, until: store.txn(txn, until=until)

    def reads(*ranges: Range) -> Callable[[EtcdStore, float], Any]:
        return lambda store, until: store.read(*ranges, until=until)

    return {
        "read": reads(Range(key)),
        "read two": reads(Range(key), Range(key)),
        "list": reads(Range(root, prefix_end(root), keys_only=True)),
        "count": reads(Range(root, prefix_end(root), count_only=True)),
        "range over all": reads(Range(mine, prefix_end(mine), limit=1, keys_only=True)),
        "range to the end": reads(Range(root, "\0", limit=1)),
        "write": sends(Txn(then=(Put(key, b"y"),))),
        "write where it is not": sends(Txn((Compare(key, "create", "==", 0),), otherwise=(Put(key, b"y"),))),
        "delete": sends(Txn(then=(Delete(key),))),
        "delete all": sends(Txn(then=(Delete(root, prefix_end(root)),))),
        "compare": sends(Txn((Compare(key, "value", "==", b"x"),))),
        "compare a range": sends(Txn((Compare(root, "create", "==", 0, end=prefix_end(root)),))),
        "watch": lambda store, until: store.watch(root, Recorder(), until=until),
        "watch all": lambda store, until: store.watch(mine, Recorder(), until=until),
    }


@pytest.mark.parametrize(("own", "other"), NEIGHBOURS)
def test_another_jobs_keys_are_out_of_reach(guarded: Guarded, own: str, other: str) -> None:
    """By every request that there is; what was there stays as it was."""
    with tenant(guarded, own) as store:
        for name, attempt in attempts(other).items():
            assert refused(lambda attempt=attempt: attempt(store, store.clock.now() + 20)), f"allowed: {name}"  # type: ignore[misc]
    with guarded.root() as root:
        kv = root.read(Range(secret(other)), until=root.clock.now() + 20).one(0)
        assert kv is not None
        assert (kv.value, kv.version) == (b"x", 1)


@pytest.mark.parametrize(("own", "other"), NEIGHBOURS)
def test_a_user_cannot_make_itself_another(guarded: Guarded, own: str, other: str) -> None:
    """Neither by rights, nor by passwords, nor by looking at the other's."""
    with tenant(guarded, own) as store:
        accounts, until = store.accounts, store.clock.now() + 20
        theirs = f"psbarrier-{other}"
        for step in (
            lambda: accounts.roles_of(theirs, until),
            lambda: accounts.permissions_of(theirs, until),
            lambda: accounts.give(f"psbarrier-{own}", theirs, until),
            lambda: accounts.set_password(theirs, "mine", until),
            lambda: accounts.remove_user(theirs, until),
        ):
            with pytest.raises(StoreRefusedError, match="permission denied"):
                step()
        assert accounts.authenticates(theirs, password(own), until) is False


def nested(op: Op) -> Txn:
    return Txn(then=(Txn(then=(op,)),))


@pytest.mark.parametrize("op", [Range(secret("job10")), Put("/psbarrier/job10/planted", b"y")], ids=["read", "write"])
def test_nested_transactions_are_as_tight_as_this_version_of_etcd_makes_them(guarded: Guarded, op: Op) -> None:
    """Before the first row of BUGS was mended, one reaches every key; psbarrier says so of such a version.

    This holds psbarrier's table to what etcd really does: an etcd that refuses must not be in it, and the other way round.
    """
    with tenant(guarded, "job1") as store:
        version = store.server_status(store.clock.now() + 20).version
        leaks = BUGS[0] in known_bugs(version, auth=True)
        assert refused(lambda: store.txn(nested(op), until=store.clock.now() + 20)) is not leaks, version


def test_leases_belong_to_nobody(guarded: Guarded) -> None:
    """Any user may keep one alive; and revoke it, unless it has keys that he may not write. This is what etcd promises."""
    with tenant(guarded, "job1") as one, tenant(guarded, "job10") as other:
        until = one.clock.now() + 20
        bound, free = one.grant(60, until=until), one.grant(60, until=until)
        one.txn(Txn(then=(Put("/psbarrier/job1/leased", b"", bound),)), until=until)
        beats = Beats()
        other.keep(bound, interval=1, on_beat=beats)
        beats.wait_for(lambda: bool(beats.ttls))
        assert beats.ttls[0] == 60
        assert refused(lambda: other.revoke(bound, until=until))
        other.revoke(free, until=until)
        with pytest.raises(LeaseNotFoundError):
            one.txn(Txn(then=(Put("/psbarrier/job1/late", b"", free),)), until=until)


def test_an_alarm_ends_all_rights_where_psbarrier_says_so(tmp_path: Path) -> None:
    """On an etcd of its own, which is of no use afterwards."""
    with guarded_etcd(tmp_path) as etcd, etcd.root() as root:
        until = root.clock.now() + 20
        ensure(root, Account.of(JobKeys("/psbarrier", "job1")), lambda: password("job1"))
        root.txn(Txn(then=(Put(secret("job10"), b"x"),)), until=until)
        version = root.server_status(until).version
        leaks = BY_AN_ALARM in known_bugs(version, auth=True)
        alarm = compat.load().AlarmRequest(action="ACTIVATE", alarm="NOSPACE")
        root._calls.send(lambda link: link._unary("Maintenance/Alarm", "Alarm"), alarm, until=until, repeat=True)
        with tenant(etcd, "job1") as store:
            delete = Txn(then=(Delete(secret("job10")),))
            assert refused(lambda: store.read(Range(secret("job10")), until=until))
            assert refused(lambda: store.txn(delete, until=until)) is not leaks, version


def test_without_a_login_nothing_is_to_be_had(guarded: Guarded) -> None:
    """Neither by a transaction that has none, nor by a made-up token."""
    with guarded.store() as store, pytest.raises(StoreRefusedError):
        store.read(Range(secret("job1")), until=store.clock.now() + 20)
    rpc = compat.load()
    credentials = grpc.ssl_channel_credentials(guarded.authority.certificate.read_bytes())
    with grpc.secure_channel(guarded.server.endpoint, credentials) as channel:
        for token in ("root", "a.1", ""):
            with pytest.raises(grpc.RpcError):
                rpc.KVStub(channel).Range(
                    rpc.RangeRequest(key=secret("job1").encode()), timeout=20, metadata=(("token", token),)
                )
