"""Values of every kind that psbarrier writes, and values that are nearly of one."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from psbarrier.policy import Policy
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord, Broken, Definition
from psbarrier.protocol.keys import Attempt
from psbarrier.protocol.records import (
    Config,
    Current,
    Departure,
    Founded,
    Gone,
    Leader,
    Loss,
    Registration,
    Seal,
    Shared,
)
from psbarrier.spec import ClusterSpec, MemberSpec, Replicas, Task
from psbarrier.state import JobState

NAMES = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)
ADDRESSES = st.builds("{}:{}".format, st.text(string.ascii_letters, min_size=1, max_size=9), st.integers(1, 65535))
WHOLE = st.integers(0, 2**62)
SECONDS = st.floats(0, 1e11)
TASKS = st.builds(Task, NAMES, st.integers(0, 99_999))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=4)
ATTEMPTS = st.builds(Attempt, *[st.integers(0, 10**10 - 1)] * 3)
BOUNDS = st.integers(1, 99) | st.tuples(st.integers(1, 9), st.integers(9, 99))
REPLICAS = st.dictionaries(NAMES, BOUNDS, min_size=1, max_size=4).map(Replicas.of)
POLICIES = st.builds(
    Policy,
    success=st.none() | st.lists(NAMES, max_size=3),
    loss_grace=SECONDS | st.dictionaries(NAMES, SECONDS, max_size=3),
    max_restarts=st.integers(0, 9),
    retention=SECONDS,
    last_call=SECONDS,
    settling=SECONDS,
)
BROKEN = st.builds(Broken, TEXTS, TEXTS, st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3))
MEMBERS = st.builds(MemberSpec, TASKS, ADDRESSES, TEXTS, OBJECTS)
_ROWS = st.lists(MEMBERS, max_size=4, unique_by=lambda member: member.task)
SPECS = st.builds(ClusterSpec, NAMES, NAMES, WHOLE, _ROWS.map(lambda rows: tuple(sorted(rows, key=lambda m: m.task))))
LOSSES = st.builds(Loss, TEXTS, SECONDS, TEXTS)
STATES = st.builds(
    JobState, st.sampled_from(("succeeded", "failed")), TEXTS, TEXTS, st.integers(-(2**31), 2**31), SECONDS
)

RECORDS: dict[str, st.SearchStrategy[Any]] = {
    "config": st.builds(Config, REPLICAS, POLICIES),
    "registration": st.builds(Registration, ADDRESSES, TEXTS, TEXTS, WHOLE, WHOLE, OBJECTS, WHOLE, SECONDS),
    "leader": st.builds(Leader, TEXTS, TEXTS),
    "seal": st.builds(Seal, WHOLE, WHOLE, TEXTS, st.none() | st.frozensets(TASKS, max_size=9)),
    "gone": st.builds(
        Gone,
        st.dictionaries(TASKS, LOSSES, max_size=3),
        st.frozensets(TASKS, max_size=9),
        st.lists(TASKS, max_size=3).map(tuple),
        WHOLE,
    ),
    "departure": st.builds(
        Departure, TEXTS, st.sampled_from(("crashed", "left")), TEXTS, st.integers(-255, 255), SECONDS
    ),
    "shared": st.builds(Shared, JSON, TEXTS, TEXTS),
    "current": st.builds(Current, NAMES),
    "founded": st.builds(Founded, SECONDS),
    "barrier": st.builds(BarrierRecord, ATTEMPTS, st.none() | BROKEN, st.none() | ATTEMPTS)
    | st.builds(BarrierRecord, ATTEMPTS, st.none() | BROKEN, st.none(), WHOLE, st.frozensets(TASKS, max_size=9)),
    "definition": st.builds(Definition, st.lists(NAMES, max_size=4).map(tuple), WHOLE),
    "arrival": st.builds(Arrival, TEXTS, WHOLE, SECONDS),
    "state": STATES,
    "spec": SPECS,
}
