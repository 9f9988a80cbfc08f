"""Task, Replicas and ClusterSpec: what can never work is refused where it is written, and the rest reads as it is."""

from __future__ import annotations

import json
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psbarrier.errors import InvalidArgumentError
from psbarrier.spec import ClusterSpec, MemberSpec, Replicas, Task, check_address, check_name

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", fullmatch=True)


@given(name=NAMES)
def test_a_name_that_can_stand_in_a_key_is_taken(name: str) -> None:
    """As it is: nothing is folded, stripped or escaped."""
    assert check_name("job", name) == name
    assert set(name) <= set(string.ascii_letters + string.digits + "._-")


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "-a", "a-", "a b", "a\n", "ä", "a" * 64, None, 3, b"a", ["a"]])
def test_any_other_name_is_refused_by_kind(name: object) -> None:
    """And is shown, shortened if it is long."""
    with pytest.raises(InvalidArgumentError, match=r"the job .* is not a valid name") as refused:
        check_name("job", name)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("address", ["h:1", "10.0.0.1:65535", "a-b.c:80", "[::1]:2222", "[fe80::1%eth0]:1"])
def test_an_address_that_others_can_use_is_taken(address: str) -> None:
    """Names, IPv4, and IPv6 in brackets."""
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "h",
        "h:",
        ":1",
        "h:0",
        "h:65536",
        "h:-1",
        "h:1x",
        "h:٣",
        "::1:80",
        "[]:1",
        "h:000001",
        "a b:1",
        "a/b:1",
        "a,b:1",
        "http://h:1",
        None,
        1,
    ],
)
def test_any_other_address_is_refused(address: object) -> None:
    """Before it is told to all the others."""
    with pytest.raises(InvalidArgumentError, match="host:port"):
        check_address(address)


@given(role=NAMES, index=st.integers(0, 10**9 - 1))
def test_a_task_reads_as_it_is_written(role: str, index: int) -> None:
    """With a slash as in etcd, or with a colon as on a command line."""
    task = Task(role, index)
    assert Task.parse(str(task)) == Task.parse(f"{role}:{index}") == task


@pytest.mark.parametrize("text", ["", "worker", "worker/", "/1", "worker/-1", "worker/1x", "a b/1", "worker/١"])
def test_a_text_that_names_no_task_is_refused(text: str) -> None:
    """With what would be right, or with what is wrong with the role."""
    with pytest.raises(InvalidArgumentError):
        Task.parse(text)


@pytest.mark.parametrize("index", [-1, True, 1.0, "1", None])
def test_an_index_is_a_whole_number(index: object) -> None:
    """True is none, whatever Python says."""
    with pytest.raises(InvalidArgumentError, match="whole number"):
        Task("worker", index)  # type: ignore[arg-type]


def test_tasks_sort_by_role_and_number() -> None:
    """worker/10 comes after worker/2."""
    assert sorted([Task("worker", 10), Task("worker", 2), Task("ps", 3)]) == [
        Task("ps", 3),
        Task("worker", 2),
        Task("worker", 10),
    ]


BOUNDS = st.integers(1, 1000) | st.tuples(st.integers(1, 99), st.integers(100, 1000))


@given(bounds=st.dictionaries(NAMES, BOUNDS, min_size=1, max_size=5))
def test_elastic_replicas_are_equal_however_they_are_written(bounds: dict[str, int | tuple[int, int]]) -> None:
    """As pairs, as lists (which JSON makes of them), or as text."""
    replicas = Replicas.of(bounds)
    assert replicas == Replicas.of(str(replicas)) == Replicas.of(replicas.as_dict())
    for role, count in bounds.items():
        least, most = count if isinstance(count, tuple) else (count, count)
        elastic = isinstance(count, tuple)
        assert (replicas.minimum(role), replicas[role], role in replicas.elastic_roles) == (least, most, elastic)
        assert replicas.elastic([role]) == elastic


def test_a_role_with_bounds_is_elastic_even_if_they_are_the_same() -> None:
    """As torchrun's --nnodes=2 means a number of nodes of which any may be replaced."""
    assert Replicas.of({"node": (2, 2)}) == Replicas.of("node=2:2") != Replicas.of("node=2")
    assert Replicas.of({"node": (2, 2)}).elastic()


def test_who_is_missing_of_an_elastic_role_are_the_first_of_those_that_it_needs() -> None:
    """Whichever of them are there; of a fixed role it is everybody."""
    replicas = Replicas.of("ps=2,worker=2:4")
    assert list(map(str, replicas.short_of([]))) == ["ps/0", "ps/1", "worker/0", "worker/1"]
    assert list(map(str, replicas.short_of([Task("ps", 1), Task("worker", 0)]))) == ["ps/0", "worker/1"]
    assert list(map(str, replicas.short_of([Task("worker", 0)], ["worker"]))) == ["worker/1"]
    assert replicas.short_of([Task("worker", 3), Task("worker", 1)], ["worker"]) == ()


@given(counts=st.dictionaries(NAMES, st.integers(1, 1000), min_size=1, max_size=5))
def test_replicas_are_equal_however_they_are_written(counts: dict[str, int]) -> None:
    """As a mapping in any order, or as text with spaces."""
    replicas = Replicas.of(counts)
    backwards = dict(reversed(counts.items()))
    text = " , ".join(f"{role} = {count}" for role, count in backwards.items())
    assert (
        replicas == Replicas.of(backwards) == Replicas.of(text) == Replicas.of(str(replicas)) == Replicas.of(replicas)
    )
    assert replicas.size == len(replicas.tasks()) == sum(counts.values())
    assert list(replicas.tasks()) == sorted(replicas.tasks())
    assert all(task in replicas and replicas.require(task) == task for task in replicas.tasks())
    assert all(Task(role, count) not in replicas and replicas[role] == count for role, count in counts.items())


@pytest.mark.parametrize(
    "given_replicas",
    [
        {},
        "",
        "worker",
        "worker=",
        "worker=two",
        "worker=-1",
        "worker=0",
        "worker=1,worker=2",
        "a b=1",
        {"worker": 0},
        {"worker": True},
        {"worker": 1.0},
        {"worker": (3, 2)},
        {"worker": (0, 2)},
        {"worker": (1, 2, 3)},
        {"worker": "28"},
        {"worker": (True, 2)},
        "worker=2:",
        "worker=3:2",
        "worker=2:60000,ps=2:60000",
        {"worker": 60_000, "ps": 40_001},
        ["worker"],
        None,
    ],
)
def test_replicas_that_make_no_job_are_refused(given_replicas: object) -> None:
    """No role, no task, one role twice, or more tasks than anybody has."""
    with pytest.raises(InvalidArgumentError):
        Replicas.of(given_replicas)  # type: ignore[arg-type]


def test_a_task_outside_the_replicas_is_told_what_there_is() -> None:
    """A misspelt role is guessed, and an index that is too large is shown the range."""
    replicas = Replicas.of("ps=1,worker=2")
    with pytest.raises(InvalidArgumentError, match="did you mean 'worker'"):
        replicas.require(Task("wroker", 0))
    with pytest.raises(InvalidArgumentError, match="indices 0 to 1"):
        replicas.require(Task("worker", 2))
    assert ("ps" in replicas, "chief" in replicas) == (True, False)


def test_a_static_spec_needs_no_etcd() -> None:
    """Addresses by role make a spec of epoch 0, whose members have no incarnations."""
    spec = ClusterSpec.from_addresses({"worker": ["b:1", "c:1"], "ps": ["a:1"]})
    assert (spec.job, spec.run, spec.epoch, spec.roles) == ("static", "static", 0, ("ps", "worker"))
    assert spec.as_dict() == {"ps": ["a:1"], "worker": ["b:1", "c:1"]}
    assert spec.member(Task("worker", 1)) == MemberSpec(Task("worker", 1), "c:1")
    assert str(spec) == "ps=1,worker=2"
    assert pickle.loads(pickle.dumps(spec)) == spec
    json.dumps(spec.as_dict())


@pytest.mark.parametrize(
    "addresses", [{}, {"worker": []}, {"worker": "h:1"}, {"worker": ["h"]}, {"a b": ["h:1"]}, {"worker": [None]}]
)
def test_a_static_spec_that_cannot_work_is_refused(addresses: dict[str, list[str]]) -> None:
    """A text is no list of addresses, although Python can walk through it."""
    with pytest.raises(InvalidArgumentError):
        ClusterSpec.from_addresses(addresses)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_each_task_of_a_spec_is_found_and_no_other(size: int) -> None:
    """Where it stands in the order of the tasks, at both ends too."""
    spec = ClusterSpec.from_addresses({"ps": ["a:1"] * size, "worker": ["b:1"] * size})
    assert [spec.find(member.task) for member in spec.members] == list(spec.members)
    assert [spec.find(task) for task in (Task("a", 0), Task("ps", size), Task("worker", size), Task("x", 0))] == [
        None
    ] * 4


def test_a_task_that_is_not_in_the_spec_is_named() -> None:
    """With what the spec does have."""
    spec = ClusterSpec.from_addresses({"worker": ["h:1"]})
    with pytest.raises(InvalidArgumentError, match=r"no task ps/0 .* it has worker=1"):
        spec.member(Task("ps", 0))
