"""What can never work is refused before anything is sent to etcd, by name, and with the way out."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jobs import PATIENCE, TWO, Place, Untouchable

import psbarrier
from psbarrier import Member, Policy
from psbarrier.errors import InvalidArgumentError, StoreUnavailableError

NO_NAMES: list[Any] = ["a/b", "a b", "a\nb", "a\n", "", "x" * 300, "-a", "a-", "..", "ä", 7, b"a", None, ["a"]]


def refuse(place: Place, **options: Any) -> str:
    """The text with which join() refuses these arguments, without asking etcd for anything."""
    given: dict[str, Any] = {"job": place.job, "role": "worker", "index": 0, "replicas": TWO, "address": "h:1"}
    with pytest.raises(InvalidArgumentError) as refused:
        psbarrier.join(Untouchable(place), **{**given, **options})
    assert isinstance(refused.value, ValueError)
    return str(refused.value)


# -- join()


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("argument", ["job", "role", "run"])
def test_names_that_cannot_stand_in_a_key_are_refused(memory: Place, argument: str, name: Any) -> None:
    """No name can reach into another job, or break a prefix permission."""
    if name is None and argument == "run":
        return  # the current run
    assert argument in refuse(memory, **{argument: name})


@pytest.mark.parametrize("index", [-1, 2, 10**30, True, False, "1", 1.0, [0]])
def test_indices_that_the_job_does_not_have_are_refused(memory: Place, index: Any) -> None:
    """Out of range, and whatever is no whole number."""
    text = refuse(memory, index=index)
    assert "index" in text
    assert "'worker'" in text


@pytest.mark.parametrize(
    "address",
    ["h", "h:", ":1", "h:0", "h:70000", "h:-1", "h:x", "h 1:1", "a/b:1", "::1:80", "", 5, "h:１", "h:" + "1" * 5000],
)
def test_addresses_that_nobody_can_reach_are_refused(memory: Place, address: Any) -> None:
    """The others would only find out when they connect."""
    assert "address" in refuse(memory, address=address)


@pytest.mark.parametrize("ttl", [1, 0, -1, 2.5, True, "15", 10**6])
def test_a_ttl_that_etcd_cannot_grant_is_refused(memory: Place, ttl: Any) -> None:
    """Whole seconds, two at least."""
    assert "ttl" in refuse(memory, ttl=ttl)


@pytest.mark.parametrize("timeout", [math.nan, -1, "3", math.inf, True, [1]])
def test_a_timeout_that_is_no_time_is_refused(memory: Place, timeout: Any) -> None:
    """Not a number of seconds: nobody can wait that long."""
    assert "timeout" in refuse(memory, timeout=timeout)


@pytest.mark.parametrize(
    "replicas",
    [
        {},
        "",
        {"ps": 0},
        {"ps": -1},
        {"ps": True},
        {"ps": "2"},
        {"p s": 1},
        {5: 1},
        "ps",
        "ps=x",
        "ps=1,ps=2",
        "=1",
        7,
        {"ps": 10**7},
    ],
)
def test_replicas_that_describe_no_job_are_refused(memory: Place, replicas: Any) -> None:
    """Every role has one task at least."""
    assert any(word in refuse(memory, replicas=replicas) for word in ("replicas", "role"))


def test_a_role_that_was_mistyped_gets_a_hint(memory: Place) -> None:
    """The most common mistake is answered with what was probably meant."""
    assert "did you mean 'worker'?" in refuse(memory, role="wroker")


@pytest.mark.parametrize(
    "policy",
    [
        lambda: Policy(success="chief"),
        lambda: Policy(success=()),
        lambda: Policy(loss_grace={"chief": 3.0}),
        lambda: Policy(loss_grace=-1),
        lambda: Policy(loss_grace=math.nan),
        lambda: Policy(max_restarts=-1),
        lambda: Policy(max_restarts=True),
        lambda: Policy(retention=math.inf),
        lambda: "forgiving",
    ],
)
def test_a_policy_that_cannot_work_is_refused(memory: Place, policy: Callable[[], Any]) -> None:
    """Roles that the job does not have, and numbers that are none."""
    with pytest.raises(InvalidArgumentError, match="policy"):
        psbarrier.join(Untouchable(memory), memory.job, "worker", 0, replicas=TWO, policy=policy())


@pytest.mark.parametrize("meta", [{"a": object()}, {"a": math.nan}, [1], "text", {"a": "x" * 5000}, {("a",): 1}])
def test_meta_that_is_no_small_json_object_is_refused(memory: Place, meta: Any) -> None:
    """It stands in the cluster spec, which every member reads."""
    assert "meta" in refuse(memory, meta=meta)


def test_a_takeover_that_does_not_exist_is_refused(memory: Place) -> None:
    """The two that do exist are named."""
    assert "'wait', 'force'" in refuse(memory, takeover="steal")


@pytest.mark.parametrize("argument", ["job", "role", "replicas"])
def test_what_is_missing_is_named_with_its_variable(memory: Place, argument: str) -> None:
    """There are two ways to say it, and both are told."""
    text = refuse(memory, **{argument: None})
    assert f"PSBARRIER_{argument.upper()}" in text
    assert f"{argument}=" in text


@pytest.mark.parametrize("store", [7, object(), ["a"], [7], b"a:1", ""])
def test_what_is_no_store_is_refused(store: Any) -> None:
    """Neither a store nor endpoints."""
    with pytest.raises(InvalidArgumentError):
        psbarrier.join(store, "job", "worker", 0, replicas=TWO)


# -- a member


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_barrier_or_value_without_a_proper_name_is_refused(place: Place, name: Any) -> None:
    """Nothing is written for it."""
    (member,) = place.start({"worker": 1})
    before = place.kvs()
    acts: list[Callable[[], Any]] = [
        lambda: member.barrier(name),
        lambda: member.share(name, 1),
        lambda: member.get(name, 1.0),
    ]
    for act in acts:
        with pytest.raises(InvalidArgumentError, match="not a valid name"):
            act()
    assert place.kvs() == before


@pytest.mark.parametrize("roles", [(), 5, ("ps",), "wroker", (1,), [None], ["worker", 3]])
def test_a_barrier_of_roles_that_the_job_does_not_have_is_refused(place: Place, roles: Any) -> None:
    """Nobody would ever come."""
    member = place.join("worker", 0)
    with pytest.raises(InvalidArgumentError):
        member.barrier("b", roles=roles)
    with pytest.raises(InvalidArgumentError, match="on_loss"):
        member.barrier("b", on_loss="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [math.nan, -1, "3", math.inf, True])
def test_no_wait_takes_a_timeout_that_is_no_time(place: Place, timeout: Any) -> None:
    """The barrier is not even arrived at."""
    (member,) = place.start({"worker": 1})
    barrier = member.barrier("b")
    before = place.kvs()
    waits: list[Callable[[Any], Any]] = [
        member.cluster,
        member.wait_job,
        barrier.wait,
        lambda timeout: member.get("k", timeout),
        lambda timeout: next(member.changes(timeout)),
    ]
    for wait in waits:
        with pytest.raises(InvalidArgumentError, match="timeout"):
            wait(timeout)
    assert barrier.n_waiting == 0
    assert place.kvs() == before


@pytest.mark.parametrize("generation", [-1, "0", True, 1.0, 1])
def test_a_generation_that_cannot_be_waited_for_is_refused(place: Place, generation: Any) -> None:
    """Neither what is no number nor what lies in the future."""
    barrier = place.join("worker", 0).barrier("b")
    with pytest.raises(InvalidArgumentError, match="generation"):
        barrier.wait(1.0, generation)
    assert barrier.n_waiting == 0


# -- no etcd


@contextlib.contextmanager
def nobody_listens() -> Iterator[str]:
    """An address that refuses connections, and that no other process can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_where_no_etcd_is_the_error_says_what_was_tried() -> None:
    """Which endpoints, for how long, and the last reason of each."""
    began = time.monotonic()
    with nobody_listens() as first, nobody_listens() as second:
        endpoints = [first, second]
        with pytest.raises(StoreUnavailableError) as unavailable:
            psbarrier.connect(endpoints, timeout=1)
    assert time.monotonic() - began <= 3.0
    assert isinstance(unavailable.value, ConnectionError)
    assert set(unavailable.value.reasons) == set(endpoints)
    for endpoint in endpoints:
        assert endpoint in str(unavailable.value)
        assert "refused" in unavailable.value.reasons[endpoint]
    assert "1.0 s" in str(unavailable.value)


def test_joining_where_no_etcd_is_says_so_too() -> None:
    """A wrong address is the first mistake of many, so the text is the same."""
    with nobody_listens() as endpoint, pytest.raises(StoreUnavailableError, match=f"{endpoint}.*refused"):
        psbarrier.join(endpoint, "job", "worker", 0, replicas=TWO, timeout=1)


def test_a_member_may_be_used_where_all_is_well(place: Place) -> None:
    """The checks above refuse nothing that is right."""
    member: Member = place.join(
        "worker",
        0,
        replicas={"worker": 1},
        address="[::1]:80",
        ttl=2,
        timeout=30,
        takeover="wait",
        meta={"a": [1, None]},
    )
    assert member.cluster(PATIENCE).member(member.task).meta == {"a": [1, None]}
