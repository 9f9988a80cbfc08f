"""psbarrier jobs: every job that is there, who keeps it waiting, and what it costs to find out."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import Counting

from cli.helpers import PATIENCE, invoke
from psbarrier import Policy, join
from psbarrier.cli import listing
from psbarrier.cli.listing import Row
from psbarrier.embedded import EtcdServer
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import Config, Current, Founded, Gone, Loss, Registration, Seal, pack_state
from psbarrier.spec import Replicas, Task
from psbarrier.state import JobState
from psbarrier.store.base import Put, Store, Txn
from psbarrier.store.etcd import EtcdStore
from psbarrier.store.memory import MemoryStore


@pytest.fixture
def prefix() -> str:
    """One of its own: the listing shows all jobs below it."""
    return f"/jobs-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(etcd: EtcdServer) -> Iterator[EtcdStore]:
    with EtcdStore(etcd.endpoint) as found:
        yield found


def write(store: Store, keys: Mapping[str, bytes]) -> None:
    items = list(keys.items())
    for at in range(0, len(items), 100):
        puts = tuple(Put(key, value) for key, value in items[at : at + 100])
        store.txn(Txn(then=puts), until=store.clock.now() + PATIENCE)


def job_keys(
    prefix: str, job: str, replicas: str, present: int, *, run: str = "r1", sealed: bool = True, **more: bytes
) -> dict[str, bytes]:
    """A run as its members write it; the first few tasks of it are registered. `more` are keys of `RunKeys` by name."""
    root = JobKeys(prefix, job)
    keys = root.run(run)
    tasks = Replicas.of(replicas).tasks()
    member = Registration("h:1", "0" * 32, "host", 1, 15).pack()
    return {
        root.current: Current(run).pack(),
        keys.config: Config(Replicas.of(replicas)).pack(),
        keys.founded: Founded(time.time() - 3700).pack(),
        **({keys.cluster: Seal.of(1, b"").pack()} if sealed else {}),
        **{keys.member(task): member for task in tasks[:present]},
        **{getattr(keys, name): value for name, value in more.items()},
    }


def listed(store: Store, prefix: str) -> dict[str, Row]:
    return {row.job: row for row in listing.read(store, prefix)}


def told(etcd: EtcdServer, prefix: str, *options: str) -> str:
    result = invoke(etcd, "jobs", "--prefix", prefix, *options)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_real_jobs_are_listed_as_they_stand(etcd: EtcdServer, prefix: str) -> None:
    """Starting, running, failed, and one that has been left alone."""
    options: dict[str, Any] = {"replicas": {"worker": 2}, "address": "h:1", "policy": Policy(max_restarts=1)}
    with (
        EtcdStore(etcd.endpoint, prefix=prefix) as store,
        join(store, "starting", "worker", 0, **options),
        join(store, "running", "worker", 0, **options) as one,
        join(store, "running", "worker", 1, **options) as other,
        join(store, "failed", "worker", 0, **options) as failed,
    ):
        join(store, "left", "worker", 0, **options).close()
        one.cluster(PATIENCE)
        other.crash("out of memory")
        failed.fail("no data")
        found = {row["job"]: row for row in json.loads(told(etcd, prefix, "--json", "--all"))["runs"]}
        lines = told(etcd, prefix)
    assert {job: row["word"] for job, row in found.items()} == {
        "starting": "starting", "running": "running", "failed": "failed", "left": "abandoned",
    }  # fmt: skip
    assert all(row["founded"] > time.time() - 600 and row["current"] for row in found.values())
    assert [(each["task"], each["why"]) for each in found["starting"]["missing"]] == [("worker/1", "not registered")]
    assert found["starting"]["missing"][0]["since"] == found["starting"]["founded"]
    (away,) = found["running"]["missing"]
    assert (away["task"], found["running"]["there"], found["running"]["size"]) == ("worker/1", 1, 2)
    assert "failed" not in lines
    assert lines.splitlines()[-1] == "1 run is over: psbarrier jobs --all shows them"


def test_people_see_who_is_missing_and_for_how_long(etcd: EtcdServer, store: EtcdStore, prefix: str) -> None:
    """The first few, with why; the oldest loss gives the time."""
    lost = {
        Task("worker", index): Loss("i", time.time() - 60 * (index + 1), "its node is gone") for index in range(3, 9)
    }
    write(store, job_keys(prefix, "ctr", "ps=1,worker=9", 4, gone=Gone(lost).pack()))
    heading, line = told(etcd, prefix).splitlines()
    assert heading.split() == ["JOB", "RUN", "STATE", "AGE", "THERE", "MISSING", "FOR"]
    assert line.split()[:6] == ["ctr", "r1", "running", "1h", "1m", "4/10"]
    gone = "worker/8 (its node is gone), worker/7 (its node is gone), worker/6 (its node is gone), and 3 more"
    assert gone in line
    assert "  9m" in line


def test_who_came_back_is_not_missing(store: EtcdStore, prefix: str) -> None:
    """Though the leader has not said so yet."""
    gone = Gone({Task("worker", 0): Loss("i", 1.0, "lost")}).pack()
    write(store, job_keys(prefix, "ctr", "worker=2", 2, gone=gone))
    assert (listed(store, prefix)["ctr"].missing, listed(store, prefix)["ctr"].there) == ((), 2)


def test_runs_that_are_over_are_shown_on_demand(etcd: EtcdServer, store: EtcdStore, prefix: str) -> None:
    """With how they ended and when; the newest run of a job comes first."""
    ended = pack_state(JobState("failed", "worker/1", "no data", 3, time.time() - 125))
    write(store, job_keys(prefix, "ctr", "worker=2", 0, run="old", state=ended))
    assert told(etcd, prefix).startswith(f"no running job below {prefix}/\n1 run is over")
    write(store, job_keys(prefix, "ctr", "worker=2", 2, run="new"))
    _, new, old = told(etcd, prefix, "--all").splitlines()
    assert (new.split()[1], old.split()[1]) == ("new", "old")
    assert "failed, by worker/1: no data, 2m" in old


def test_nothing_there_is_said(etcd: EtcdServer, prefix: str) -> None:
    """And is no error; for programs, it is an empty list."""
    assert told(etcd, prefix) == f"no running job below {prefix}/\n"
    assert json.loads(told(etcd, prefix, "--json")) == {"prefix": prefix, "runs": []}


def test_names_that_begin_alike_are_all_found(store: EtcdStore, prefix: str) -> None:
    """In etcd's order '-' and '.' come before the slash, and the digits after it."""
    names = ["a", "a-b", "a.b", "a0", "a00", "ab", "job-1", "job-10", "job-2", "z" * 63, "B", "0"]
    write(store, {key: value for name in names for key, value in job_keys(prefix, name, "worker=1", 1).items()})
    assert sorted(listed(store, prefix)) == sorted(names)


def test_keys_of_strangers_are_passed_over(etcd: EtcdServer, store: EtcdStore, prefix: str) -> None:
    """Whatever their names, bytes that are no text too, and whatever they hold; a run that cannot be read is told so."""
    write(store, job_keys(prefix, "mine", "worker=1", 1))
    write(store, dict.fromkeys([prefix, f"{prefix}/", f"{prefix}/file", f"{prefix}//x", f"{prefix}/bad name/x"], b"?"))
    write(store, dict.fromkeys([f"{prefix}/empty/x", f"{prefix}/no-run/runs/", f"{prefix}/no-run/runs/-/x"], b"?"))
    write(store, {f"{prefix}/mine/runs/r1/members/nobody": b"?", f"{prefix}/mine/runs/without-config/x": b"?"})
    broken = job_keys(prefix, "broken", "worker=1", 1)
    write(store, {**broken, f"{prefix}/broken/runs/r1/config": b"{"})
    put_bytes(store, prefix.encode() + b"/\xff\xfe/x")
    put_bytes(store, prefix.encode() + b"/mine/runs/\xff")
    put_bytes(store, prefix.encode() + b"/mine/runs/r1/members/\xff")
    found = listed(store, prefix)
    assert sorted(found) == ["broken", "mine"]
    assert found["broken"].word == "unreadable"
    assert (found["mine"].there, found["mine"].missing) == (1, ())
    assert "unreadable: the value of" in told(etcd, prefix)
    assert json.loads(told(etcd, prefix, "--json"))


def put_bytes(store: EtcdStore, key: bytes) -> None:
    """A key that psbarrier's own stores would refuse to write."""
    from psbarrier.store import compat

    request = compat.load().TxnRequest()
    request.success.add().request_put.key = key
    store._calls.send(
        lambda link: link.txn, request.SerializeToString(), until=store.clock.now() + PATIENCE, repeat=True
    )


@given(st.sets(st.from_regex(r"[a-c01]([a-c01.\-]{0,3}[a-c01])?", fullmatch=True), max_size=12))
def test_every_job_is_found_once(names: set[str]) -> None:
    """Whatever the names, the search that looks nearby first misses none."""
    store = MemoryStore()
    write(store, {f"/p/{name}/{key}": b"" for name in names for key in ("current", "runs/r/config")})
    assert sorted(job.job for job in listing._jobs(store, "/p")) == sorted(names)
    store.close()


@pytest.mark.parametrize(
    ("jobs", "tasks", "requests"),
    [(40, 10, 53), pytest.param(500, 100, 600, marks=pytest.mark.slow)],
)
def test_what_many_jobs_cost(store: EtcdStore, prefix: str, jobs: int, tasks: int, requests: int) -> None:
    """About one small request for each job, and few for everything else; one job in ten misses two tasks."""
    for number in range(jobs):
        arrivals = {f"{prefix}/job-{number:04d}/runs/r1/arrivals/b/0/worker/{index}": b"" for index in range(tasks)}
        present = tasks - 2 if number % 10 == 0 else tasks
        write(store, job_keys(prefix, f"job-{number:04d}", f"worker={tasks}", present) | arrivals)
    counting, measuring = Counting(store), Largest(store)
    found = listing.read(counting, prefix)
    assert len(found) == jobs
    assert sum(len(row.missing) for row in found) == 2 * len(range(0, jobs, 10))
    assert counting.requests == requests
    listing.read(measuring, prefix)
    assert measuring.keys <= listing._KEYS_AT_ONCE


class Largest:
    """A store that measures how many keys its largest answer has held."""

    def __init__(self, store: Store) -> None:
        self._store, self.keys = store, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, *ranges: Any, until: float) -> Any:
        reply = self._store.read(*ranges, until=until)
        self.keys = max(self.keys, sum(len(reply.many(at)) for at in range(len(ranges))))
        return reply
