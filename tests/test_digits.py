"""The digits example, each process started by hand: in any order it ends well, or all of it ends with the reason why."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from digits_job import TASKS, DigitsJob, accuracy, cluster_lines

from psbarrier.embedded import EtcdServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

AT_ONCE = 3  # jobs; more would only wait for the processor
EXIT = 2.0  # seconds after the last worker's end in which every ps ends by itself
LONG = {"DIGITS_EPOCHS": "100", "PSBARRIER_TTL": "2"}  # long enough to break it in the middle


def name() -> str:
    return f"digits-{uuid.uuid4().hex[:8]}"


def succeeds(folder: Path, endpoint: str, seed: int) -> None:
    folder.mkdir()
    with DigitsJob(folder, endpoint, name()) as job:
        job.start_apart(seed)
        assert job.results() == dict.fromkeys(TASKS, 0), job.everything
        said = [cluster_lines(job[task].text) for task in TASKS]
        assert all(lines == said[0] and len(lines) == 1 for lines in said), job.everything
        assert accuracy(job["worker/0"].text) >= 0.93
        last = max(job[task].ended for task in TASKS if task.startswith("worker/"))
        assert max(job[task].ended for task in TASKS if task.startswith("ps/")) <= last + EXIT


def all_succeed(folder: Path, endpoint: str, seeds: range) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in [pool.submit(succeeds, folder / str(seed), endpoint, seed) for seed in seeds]:
            outcome.result()


def test_six_processes_may_start_in_any_order_up_to_five_seconds_apart(etcd: EtcdServer, tmp_path: Path) -> None:
    """All exit 0 with the same spec and a trained model, and the ps end when the work is done."""
    all_succeed(tmp_path, etcd.endpoint, range(4))


@pytest.mark.slow
def test_many_more_orders(etcd: EtcdServer, tmp_path: Path) -> None:
    """The same as above, for whoever has the time."""
    all_succeed(tmp_path, etcd.endpoint, range(4, 26))


@pytest.mark.parametrize(
    "victims",
    [pytest.param(("ps/0",), marks=pytest.mark.slow), ("ps/0", "ps/1"), ("ps/1", "worker/2")],
    ids="+".join,
)
def test_what_is_killed_and_started_again_finds_its_way_back(
    etcd: EtcdServer, tmp_path: Path, victims: tuple[str, ...]
) -> None:
    """A ps comes back with a new address and without its slice; the workers find it, and give it a copy."""
    with DigitsJob(tmp_path, etcd.endpoint, name(), **LONG) as job:
        job.start(*TASKS)
        assert job["worker/0"].says("epoch 20 of"), job.everything
        for victim in victims:
            job[victim].kill()
        job.start(*victims)
        assert job.results() == dict.fromkeys(TASKS, 0), job.everything
        assert accuracy(job["worker/0"].text) >= 0.93
        seen = {task: [line.split()[3] for line in cluster_lines(job[task].text)] for task in ("worker/0", "worker/1")}
        assert seen["worker/0"][0] != seen["worker/0"][-1] == seen["worker/1"][-1], job.everything


def test_a_restarted_worker_resumes_where_the_others_are(etcd: EtcdServer, tmp_path: Path) -> None:
    """It does not begin at the first epoch again."""
    with DigitsJob(tmp_path, etcd.endpoint, name(), **LONG) as job:
        job.start(*TASKS)
        assert job["worker/0"].says("epoch 20 of"), job.everything
        job["worker/0"].kill()
        job.start("worker/0")
        assert job.results() == dict.fromkeys(TASKS, 0), job.everything
        assert "epoch 100 of" in job["worker/0"].text
        assert "epoch 20 of" not in job["worker/0"].text
        assert accuracy(job["worker/0"].text) >= 0.93


def test_a_ps_that_stays_away_fails_the_job_for_all(etcd: EtcdServer, tmp_path: Path) -> None:
    """Nobody tries for ever: each ends with an error that names the task and when it was lost."""
    with DigitsJob(tmp_path, etcd.endpoint, name(), **LONG, PSBARRIER_LOSS_GRACE="1") as job:
        job.start(*TASKS)
        assert job["worker/0"].says("epoch 20 of"), job.everything
        job["ps/1"].kill()
        results = job.results()
        assert all(results.values()), results
        for task in set(TASKS) - {"ps/1"}:
            assert "ps/1 was lost at " in job[task].text.splitlines()[-1], job.everything
