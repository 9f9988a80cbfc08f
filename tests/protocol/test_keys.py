"""Keys: one job never sees another, and what is older sorts first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.strategies import ATTEMPTS, NAMES, TASKS
from psbarrier.errors import InvalidArgumentError, MalformedValueError
from psbarrier.protocol.keys import Attempt, JobKeys, RunKeys, below, parse_task
from psbarrier.spec import Task

KEYS = JobKeys("/psbarrier", "job").run("r1")


def every(keys: RunKeys, task: Task, name: str, attempt: Attempt) -> list[str]:
    """One key of each kind."""
    return [
        keys.config,
        keys.founded,
        keys.leader,
        keys.cluster,
        keys.gone,
        keys.state,
        keys.barrier(name),
        keys.shared(name),
        keys.member(task),
        keys.departure(task),
        keys.body(attempt.generation),
        keys.definition(name),
        keys.arrival(name, attempt, task),
        keys.barrier_tick(name, attempt),
        keys.finish_tick(task.role),
        keys.crash_tick(task),
        keys.slot_tick(task.role),
    ]


@given(task=TASKS, name=NAMES, attempt=ATTEMPTS)
def test_all_of_a_job_lies_below_its_root(task: Task, name: str, attempt: Attempt) -> None:
    """A prefix permission isolates a job: `job` and `job1` share no key, nor do two runs of one."""
    mine = every(KEYS, task, name, attempt)
    assert len(set(mine)) == len(mine)
    assert all(key.startswith(JobKeys("/psbarrier", "job").root) for key in mine)
    others = [JobKeys("/psbarrier", "job1").run("r1"), JobKeys("/psbarrier", "job").run("r11")]
    for other in others:
        assert not set(mine) & set(every(other, task, name, attempt))
        assert not any(key.startswith(KEYS.root) for key in every(other, task, name, attempt))


@given(task=TASKS, name=NAMES, attempt=ATTEMPTS)
def test_only_control_is_told_to_everyone(task: Task, name: str, attempt: Attempt) -> None:
    """The one watch of each member carries no arrivals, ticks or registrations."""
    told = [key for key in every(KEYS, task, name, attempt) if key.startswith(KEYS.control)]
    assert told == [
        KEYS.leader,
        KEYS.cluster,
        KEYS.gone,
        KEYS.state,
        KEYS.barrier(name),
        KEYS.shared(name),
    ]


@given(one=ATTEMPTS, other=ATTEMPTS)
def test_attempts_sort_as_their_numbers_do(one: Attempt, other: Attempt) -> None:
    """So that one range deletes what is older, and nothing else."""
    assert (one.text < other.text) == (one.numbers < other.numbers)
    start, end = KEYS.arrivals_before("b", other.generation)
    assert (start <= KEYS.arrivals("b", one) < end) == (one.generation < other.generation)
    start, end = KEYS.barrier_ticks_before("b", other.generation)
    assert (start <= KEYS.barrier_tick("b", one) < end) == (one.generation < other.generation)


@given(task=TASKS)
def test_a_task_is_read_back_from_its_key(task: Task) -> None:
    """Registrations, departures and crash counts alike."""
    assert parse_task(KEYS.members, KEYS.member(task)) == task
    assert parse_task(KEYS.departures, KEYS.departure(task)) == task
    assert parse_task(KEYS.crash_ticks, KEYS.crash_tick(task)) == task


@given(rest=st.text(max_size=30))
def test_a_key_that_names_no_task_is_malformed(rest: str) -> None:
    """A stranger's key is refused by name."""
    key, task = KEYS.members + rest, None
    try:
        task = parse_task(KEYS.members, key)
    except MalformedValueError as error:
        refused = error.key
    assert refused == key if task is None else parse_task(KEYS.members, KEYS.member(task)) == task


@pytest.mark.parametrize("prefix", ["/a/", "/psbarrier/job/runs/r1/control/", "x"])
def test_below_is_exactly_what_starts_with_the_prefix(prefix: str) -> None:
    """The range ends before the first key that does not."""
    start, end = below(prefix)
    assert start <= prefix + "a" < end
    assert start <= prefix + "\x7f" < end
    assert not prefix[:-1] + chr(ord(prefix[-1]) + 1) < end


@pytest.mark.parametrize("run", ["", "a/b", "..", "-a", "a" * 64, "ä"])
def test_a_run_that_cannot_stand_in_a_key_is_refused(run: str) -> None:
    """Before anything is asked of etcd."""
    with pytest.raises(InvalidArgumentError, match="run"):
        JobKeys("/psbarrier", "job").run(run)
