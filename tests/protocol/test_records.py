"""Every value survives etcd, and whatever else stands there is refused by name, and never by an accident."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.strategies import JSON, RECORDS, TASKS
from psbarrier.errors import MalformedValueError
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord, Definition
from psbarrier.protocol.codec import COMPRESS_ABOVE, encode
from psbarrier.protocol.records import (
    Config,
    Current,
    Departure,
    Founded,
    Gone,
    Leader,
    Registration,
    Seal,
    Shared,
    pack_indices,
    pack_spec,
    pack_state,
    unpack_indices,
    unpack_spec,
    unpack_state,
)
from psbarrier.spec import ClusterSpec, MemberSpec, Replicas, Task

KEY = "/psbarrier/job/runs/r1/somewhere"
UNPACK: dict[str, Callable[[str, bytes], Any]] = {
    "config": Config.unpack,
    "registration": Registration.unpack,
    "leader": Leader.unpack,
    "seal": Seal.unpack,
    "gone": Gone.unpack,
    "departure": Departure.unpack,
    "shared": Shared.unpack,
    "current": Current.unpack,
    "founded": Founded.unpack,
    "barrier": BarrierRecord.unpack,
    "definition": Definition.unpack,
    "arrival": Arrival.unpack,
    "state": unpack_state,
    "spec": unpack_spec,
}
KINDS = pytest.mark.parametrize("kind", sorted(UNPACK))


def packed(kind: str, value: Any) -> bytes:
    if kind == "state":
        return pack_state(value)
    return pack_spec(value) if kind == "spec" else value.pack()


def read(kind: str, value: bytes) -> Any:
    """The value, or None when it is refused as it should be."""
    try:
        return UNPACK[kind](KEY, value)
    except MalformedValueError as error:
        refused = error
    assert refused.key == KEY
    assert KEY in str(refused)
    return None


@KINDS
@given(data=st.data())
def test_every_value_survives_the_round_trip(kind: str, data: st.DataObject) -> None:
    """What one process writes is what another reads, and equal values are equal bytes."""
    value = data.draw(RECORDS[kind])
    known = read(kind, packed(kind, value))
    assert known == value
    assert packed(kind, known) == packed(kind, value)


@KINDS
@given(data=st.data())
def test_every_value_is_canonical(kind: str, data: st.DataObject) -> None:
    """Those that take a short way to their bytes come to the same ones."""
    written = packed(kind, data.draw(RECORDS[kind]))
    fields = json.loads(written if written[:1] == b"{" else zlib.decompress(written[1:]))
    assert written == encode({name: value for name, value in fields.items() if name != "v"})


@KINDS
@given(value=st.binary(max_size=200))
def test_any_bytes_are_a_value_or_malformed(kind: str, value: bytes) -> None:
    """A stranger who writes below our prefix crashes nobody."""
    read(kind, value)
    read(kind, b"{" + value)
    read(kind, b"z" + zlib.compress(value))


@KINDS
@given(data=st.data())
def test_a_field_of_any_other_kind_is_a_value_or_malformed(kind: str, data: st.DataObject) -> None:
    """The names of the fields are right, and one or more hold, or lack, whatever JSON can say."""
    fields = as_json(kind, data.draw(RECORDS[kind]))
    for name in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        where: Any = fields
        if isinstance(fields.get(name), dict) and fields[name] and data.draw(st.booleans()):
            where, name = fields[name], data.draw(st.sampled_from(sorted(fields[name])))
        if data.draw(st.booleans()):
            where.pop(name, None)
        else:
            where[name] = data.draw(JSON | st.sampled_from((10**400, 1e308, -1, "-", [1, 2, 3], {"worker": 5})))
    used(read(kind, json.dumps(fields).encode()))


def as_json(kind: str, value: Any) -> dict[str, Any]:
    data = packed(kind, value)
    fields: dict[str, Any] = json.loads(zlib.decompress(data[1:]) if data[:1] == b"z" else data)
    return fields


def used(value: Any) -> None:
    """What is accepted can be used: a config's numbers are compared, a list's tasks are named."""
    if isinstance(value, Config):
        value.as_dict()
        value.policy.grace("worker")
    str(value)


@KINDS
@given(data=st.data())
def test_another_version_is_refused(kind: str, data: st.DataObject) -> None:
    """A job whose processes run different versions of psbarrier is told so, and guesses nothing."""
    fields = as_json(kind, data.draw(RECORDS[kind]))
    fields["v"] = data.draw(st.sampled_from((0, 2, "1", None)))
    with pytest.raises(MalformedValueError, match="version"):
        UNPACK[kind](KEY, json.dumps(fields).encode())


def test_large_values_are_compressed_and_bounded() -> None:
    """A spec of thousands of members fits into a request, and a value that unpacks without end is refused."""
    value = "a" * COMPRESS_ABOVE
    shared = Shared(value, "worker/0", "w")
    assert len(shared.pack()) < COMPRESS_ABOVE
    assert Shared.unpack(KEY, shared.pack()) == shared
    bomb = b"z" + zlib.compress(b'{"v":1,"run":"' + b"a" * (65 * 1024 * 1024) + b'"}')
    with pytest.raises(MalformedValueError, match="65536 bytes"):
        Current.unpack(KEY, bomb)
    with pytest.raises(MalformedValueError, match="cut off"):
        Shared.unpack(KEY, shared.pack()[:-4])


def test_values_are_canonical() -> None:
    """A config is compared byte by byte, so there is one way to write it."""
    assert encode({"b": 1, "a": "é"}) == b'{"a":"\\u00e9","b":1,"v":1}'


@given(tasks=st.frozensets(TASKS, max_size=30))
def test_indices_survive_as_ranges(tasks: Any) -> None:
    """Thousands of finished tasks are a few ranges."""
    assert unpack_indices(pack_indices(tasks)) == tasks


def test_ranges_are_as_short_as_they_can_be() -> None:
    """Neighbours are joined; nobody else."""
    packed_ranges = pack_indices(unpack_indices({"ps": "0", "worker": "0-3,5,7-8"}))
    assert packed_ranges == {"ps": "0", "worker": "0-3,5,7-8"}


def test_a_spec_whose_members_are_out_of_order_is_malformed() -> None:
    """Who looks for a task relies on the order."""
    rows = tuple(MemberSpec(Task("worker", index), "h:1") for index in (1, 0))
    with pytest.raises(MalformedValueError, match="order"):
        unpack_spec(KEY, pack_spec(ClusterSpec("job", "run", 1, rows)))


def test_the_parties_of_a_barrier_are_counted_and_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of ten thousand members does it: a list of all for each takes minutes."""
    replicas = Replicas.of({"ps": 2, "worker": 90_000})
    monkeypatch.setattr("psbarrier.spec.Task", None)
    assert Definition.of(("worker",), replicas).parties == 90_000
