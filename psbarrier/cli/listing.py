"""Listing: all jobs below a prefix, each run as of one revision. All but `read` and what it calls is pure.

What it costs. etcd counts all keys of a range, however few it is asked for, so a range over everything that is left is as
dear as reading it. So the next job is looked for among the names that begin as the last two did (job-0007 and job-0008:
job-000…, then job-00…). Then come the names of the runs, and what describes each run, for many at once; and at last, only
where tasks may be missing, who is there. 500 jobs of 100 tasks take about 600 small requests if they are numbered, and 800 if
their names are random; no answer holds more than some thousand keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from attrs import asdict, evolve, frozen

from psbarrier.errors import InvalidArgumentError, MalformedValueError
from psbarrier.flows.gate import registered_tasks
from psbarrier.protocol.keys import JobKeys, RunKeys, below
from psbarrier.protocol.records import Config, Current, Founded, Gone, unpack_state
from psbarrier.spec import Replicas, Task, check_name
from psbarrier.state import JobState
from psbarrier.store.base import Range, RangeResult, Store, prefix_end

T = TypeVar("T")

_AT_ONCE = 112
"""Operations in one request; etcd allows 128 by default."""
_KEYS_AT_ONCE = 5000
_NEAR = 3
"""How many ranges are tried before the one that holds all that is left."""


@frozen
class Row:
    """One run of a job.

    `there` of `size` tasks are registered, the finished ones too. `missing` are the others, each with why, and since when
    in seconds since 1970 (0: not known). `founded` is when the run began, 0 where that is not known. `problem` says what
    is wrong with its keys, if they cannot be read.
    """

    job: str
    run: str
    current: bool
    state: JobState
    founded: float
    sealed: bool
    replicas: str
    there: int
    size: int
    missing: tuple[Missing, ...] = ()
    problem: str = ""

    @property
    def word(self) -> str:
        """The state in one word."""
        if self.problem:
            return "unreadable"
        if self.state.over:
            return self.state.phase
        return "abandoned" if not self.there else "running" if self.sealed else "starting"

    def as_dict(self) -> dict[str, Any]:
        """The form of `psbarrier jobs --json`."""
        return {**asdict(self), "word": self.word}


@frozen
class Missing:
    """A task that is not registered."""

    task: str
    why: str
    since: float


@frozen
class _Run:
    job: JobKeys
    name: str

    @property
    def keys(self) -> RunKeys:
        return self.job.run(self.name)

    def ranges(self) -> tuple[Range, ...]:
        """What a row is made from."""
        keys = self.keys
        return (
            Range(self.job.current),
            Range(keys.config),
            Range(keys.state),
            Range(keys.founded),
            Range(keys.cluster, keys_only=True),
            Range(keys.gone),
            Range(*below(keys.members), count_only=True),
        )


_OPS = 7


def read(store: Store, prefix: str) -> list[Row]:
    """Every run of every job below the prefix, by name, the newest run of a job first.

    Keys that psbarrier did not write are passed over. Raises StoreUnavailableError and StoreRefusedError.
    """
    jobs = list(_jobs(store, prefix))
    runs = _runs(store, jobs)
    rows: list[tuple[Row, int, _Run]] = []
    for batch in _batches(runs, _AT_ONCE // _OPS):
        answers = _ask(store, [each for run in batch for each in run.ranges()])
        for at, run in enumerate(batch):
            found = row(run.job.job, run.name, answers[at * _OPS : (at + 1) * _OPS])
            if found is not None:
                rows.append((*found, run))
    rows.sort(key=lambda each: (each[0].job, -each[1]))
    return _name_missing(store, [(found, run) for found, _, run in rows])


def _jobs(store: Store, prefix: str) -> Iterator[JobKeys]:
    """The jobs that have keys, in the order of their keys."""
    root = f"{prefix}/"
    start, last, alike = root, "", 0
    while True:
        ends = [prefix_end(root + last[:keep]) for keep in range(alike, max(0, alike - _NEAR), -1)]
        key = _first(store, start, [*ends, prefix_end(root)])
        if key is None:
            return
        name, slash, _ = key.removeprefix(root).partition("/")
        start = prefix_end(f"{root}{name}/") if slash else f"{key}\0"
        job = _job(prefix, name) if slash else None
        if job is not None:
            yield job
            last, alike = name, _alike(last, name)


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def _first(store: Store, start: str, ends: Iterable[str]) -> str | None:
    """The first key from `start` on, looked for in the narrower ranges first."""
    for end in ends:
        if start < end and (found := _ask(store, [Range(start, end, limit=1, keys_only=True)])[0].kvs):
            return found[0].key
    return None


def _job(prefix: str, name: str) -> JobKeys | None:
    try:
        return JobKeys(prefix, check_name("job", name))
    except InvalidArgumentError:
        return None


def _runs(store: Store, jobs: Sequence[JobKeys]) -> list[_Run]:
    """The runs of all jobs: the next one of each job in each round."""
    found: list[_Run] = []
    open_jobs = [(job, job.runs) for job in jobs]
    while open_jobs:
        further = []
        for batch in _batches(open_jobs, _AT_ONCE):
            ranges = [Range(start, prefix_end(job.runs), limit=1, keys_only=True) for job, start in batch]
            for (job, _), answer in zip(batch, _ask(store, ranges), strict=True):
                if answer.kvs:
                    name = answer.kvs[0].key.removeprefix(job.runs).partition("/")[0]
                    found += [_Run(job, name)] if _is_name(name) else []
                    further.append((job, prefix_end(f"{job.runs}{name}/")))
        open_jobs = further
    return found


def _is_name(name: str) -> bool:
    try:
        check_name("run", name)
    except InvalidArgumentError:
        return False
    return True


def row(job: str, run: str, answers: Sequence[RangeResult]) -> tuple[Row, int] | None:
    """The run that the answers to its ranges describe, who is missing aside, and the revision that made it; None for one
    that is not there (any more)."""
    current, config, state, founded, cluster, gone = (answer.kvs[0] if answer.kvs else None for answer in answers[:6])
    if config is None:
        return None
    bare = Row(job, run, False, JobState(), 0.0, cluster is not None, "", answers[6].count, 0)
    try:
        replicas = Config.unpack(config.key, config.value).replicas
        lost = Gone.unpack(gone.key, gone.value).lost if gone else {}
        found = evolve(
            bare,
            current=current is not None and Current.unpack(current.key, current.value).run == run,
            state=unpack_state(state.key, state.value) if state else JobState(),
            founded=Founded.unpack(founded.key, founded.value).since if founded else 0.0,
            replicas=str(replicas),
            size=replicas.least_size(),
            missing=tuple(Missing(str(task), loss.why, loss.since) for task, loss in sorted(lost.items())),
        )
    except (MalformedValueError, InvalidArgumentError) as error:
        return evolve(bare, problem=str(error)), config.create
    return found, config.create


def _name_missing(store: Store, rows: Sequence[tuple[Row, _Run]]) -> list[Row]:
    """The same with who is missing, which takes a look at who is registered; only where it may be somebody."""
    done = [found for found, _ in rows]
    # Where the leader knows of a loss, the task may have come back; or somebody else's key makes up the number.
    wanted = [
        at
        for at, row in enumerate(done)
        if not (row.problem or row.state.over) and (row.there != row.size or row.missing)
    ]
    for batch in _groups(wanted, lambda at: done[at].there, _AT_ONCE, _KEYS_AT_ONCE):
        ranges = [Range(*below(rows[at][1].keys.members), keys_only=True) for at in batch]
        for at, answer in zip(batch, _ask(store, ranges), strict=True):
            done[at] = complete(done[at], registered_tasks(rows[at][1].keys.members, answer.kvs))
    return [evolve(row, missing=()) if row.state.over else row for row in done]


def complete(row: Row, present: set[Task]) -> Row:
    """The row, with everybody who is not among those `present`; a key of nobody's task counts for nothing."""
    known = {missing.task: missing for missing in row.missing}
    replicas = Replicas.of(row.replicas)
    absent = [str(task) for task in replicas.short_of(present)]
    # Before the first spec is sealed they have been missing from the beginning.
    since = 0.0 if row.sealed else row.founded
    missing = [known.get(task) or Missing(task, "not registered", since) for task in absent]
    missing.sort(key=lambda each: (not each.since, each.since))  # those of whom most is known, and who are longest gone
    return evolve(row, there=len(present.intersection(replicas.tasks())), missing=tuple(missing))


def _ask(store: Store, ranges: Sequence[Range]) -> list[RangeResult]:
    """All ranges in one request."""
    reply = store.read(*ranges, until=store.clock.now() + 2 * store.request_timeout)
    return [reply.ranged(at) for at in range(len(ranges))]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _groups(items: Iterable[T], weight: Callable[[T], int], count: int, most: int) -> Iterator[list[T]]:
    """Consecutive items, so many at most, and together not much heavier than `most`."""
    group: list[T] = []
    heavy = 0
    for item in items:
        if group and (len(group) == count or heavy + weight(item) > most):
            yield group
            group, heavy = [], 0
        group.append(item)
        heavy += weight(item)
    if group:
        yield group
