"""Which run of a job is meant when none is named."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from attrs import frozen

from psbarrier.errors import InvalidArgumentError, MalformedValueError
from psbarrier.flows.effects import Flow, settle
from psbarrier.protocol.keys import JobKeys, RunKeys
from psbarrier.protocol.records import Current, unpack_state
from psbarrier.session import Session
from psbarrier.spec import check_name
from psbarrier.state import JobState
from psbarrier.store.base import KV, Range, Store, Txn, prefix_end

MOST_RUNS = 1000
"""Each costs two requests, and hundreds would be read in vain."""


@frozen
class Run:
    """A run that exists. `config` is its configuration's key."""

    name: str
    keys: RunKeys
    config: KV
    state: JobState
    current: bool


@frozen
class Runs:
    """The runs of a job, the newest first, as of `revision`."""

    found: tuple[Run, ...]
    revision: int

    @property
    def running(self) -> tuple[Run, ...]:
        """Those that are not over."""
        return tuple(run for run in self.found if not run.state.over)

    def meant(self) -> Run | None:
        """The one that is meant when none is named: the current one if it runs, else the newest that runs, else the
        newest."""
        running = self.running
        return next((run for run in running if run.current), None) or next(iter(running or self.found), None)


def finding(job: JobKeys, name: str | None, clock: Callable[[], float], until: float) -> Flow[Runs]:
    """The run `name` of a job, or all its runs: one read for each, whatever they hold."""
    reply = yield from settle(Txn(then=(Range(job.current),)), clock, until)
    revision = reply.revision
    current = _current(reply.one(0), name)
    names = [name] if name is not None else (yield from _names(job, clock, until))
    found = []
    for each in names:
        keys = job.run(each)
        reply = yield from settle(Txn(then=(Range(keys.config), Range(keys.state))), clock, until)
        config, state = reply.one(0), reply.one(1)
        if config is not None:
            how = unpack_state(state.key, state.value) if state else JobState()
            found.append(Run(each, keys, config, how, each == current))
    return Runs(tuple(sorted(found, key=lambda run: run.config.create, reverse=True)), revision)


def _current(kv: KV | None, wanted: str | None) -> str | None:
    """The run that J/current names; one that cannot be read does not matter to whoever names a run."""
    try:
        return Current.unpack(kv.key, kv.value).run if kv else None
    except MalformedValueError:
        if wanted is None:
            raise
        return None


def _names(job: JobKeys, clock: Callable[[], float], until: float) -> Flow[list[str]]:
    """From each run's first key to the first key behind that run."""
    names: list[str] = []
    looks = 0
    start, end = job.runs, prefix_end(job.runs)
    while True:
        reply = yield from settle(Txn(then=(Range(start, end, limit=1, keys_only=True),)), clock, until)
        kvs = reply.many(0)
        if not kvs:
            return names
        name = kvs[0].key.removeprefix(job.runs).partition("/")[0]
        looks += 1
        if looks > MOST_RUNS:
            raise InvalidArgumentError(
                f"below {job.runs!r} there are more than {MOST_RUNS} runs: name one with --run, or remove what another "
                "program has written there"
            )
        with contextlib.suppress(InvalidArgumentError):  # another program's key is no run
            names.append(check_name("run", name))
        start = prefix_end(f"{job.runs}{name}/")


def find(store: Store, job: JobKeys, name: str | None) -> Runs:
    """`finding`, by itself; raises StoreUnavailableError or StoreRefusedError."""
    session = Session(store)
    try:
        return session.run(finding(job, name, store.clock.now, store.clock.now() + 2 * store.request_timeout))
    finally:
        session.close()
