"""Small values for all: who shares what, and how long one waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from jobs import PATIENCE, TWO, Losing, Place, call, raised, returned

from psbarrier.errors import InvalidArgumentError, JobFailedError, JobOverError, ShareTimeoutError
from psbarrier.member import LARGEST_SHARED


@pytest.mark.parametrize("value", [None, 0, "", False, [], {"path": "/ckpt/7", "steps": [1, 2.5]}, "ü" * 600])
def test_what_one_shares_all_get(place: Place, value: Any) -> None:
    """Any JSON value arrives as it was, the empty ones too, with those who wait and those who come later."""
    first, second = place.join("worker", 0), place.join("worker", 1)
    waiting = call(second.get, "k", PATIENCE)
    first.share("k", value)
    assert returned(waiting) == value
    assert first.get("k", 0.0) == value
    place.lose(second)
    assert place.join("worker", 1).get("k", 0.0) == value


def test_the_last_one_to_share_wins(place: Place) -> None:
    """A value can be replaced; whoever shared it sees its own value at once."""
    first, second = place.start(TWO)
    for number in range(10):
        first.share("k", number)
        assert first.get("k", 0.0) == number
    second.share("k", "mine")
    assert second.get("k", 0.0) == "mine"
    place.until(lambda: first.get("k", 0.0) == "mine", step=0)


def test_many_may_share_at_once(place: Place) -> None:
    """Nobody's value is lost half-written, and every call comes to an end."""
    members = place.start({"worker": 4})
    for future in [call(member.share, "k", member.task.index) for member in members for _ in range(1)]:
        returned(future)
    place.until(lambda: len({member.get("k", 0.0) for member in members}) == 1, step=0)


@pytest.mark.parametrize("applied", [False, True])
def test_a_share_whose_reply_is_lost_is_repeated(memory: Place, applied: bool) -> None:
    """The value is there in the end, or that of a member that shared at the same time."""
    second = memory.join("worker", 1)
    newer = (lambda: second.share("k", "newer")) if applied else (lambda: None)
    store = Losing(memory.client(), "/control/shared/", applied, newer)
    memory.join("worker", 0, store=store).share("k", "older")
    assert store.lost
    assert second.get("k", PATIENCE) in ({"newer", "older"} if applied else {"older"})


def test_waiting_for_a_value_has_a_deadline(place: Place) -> None:
    """ShareTimeoutError names the key that nobody has shared."""
    waiting = call(place.join("worker", 0).get, "port", 0.5)
    place.until(waiting.done)
    error = raised(waiting)
    assert isinstance(error, ShareTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.key == "port"
    assert "'port'" in str(error)


@pytest.mark.parametrize("end", ["fail", "finish"])
def test_the_end_of_the_job_ends_the_wait_for_a_value(place: Place, end: str) -> None:
    """Nobody will share it any more."""
    chief, worker = place.start({"chief": 1, "worker": 1})
    waiting = call(worker.get, "k", None)
    if end == "fail":
        chief.fail("bad", 2)
        assert isinstance(raised(waiting), JobFailedError)
    else:
        chief.finish()
        assert type(raised(waiting)) is JobOverError


def test_a_value_that_is_too_large_is_refused_with_the_sizes(place: Place) -> None:
    """A shared value goes to every member, so it is small."""
    (member,) = place.start({"worker": 1})
    member.share("k", "x" * (LARGEST_SHARED - 2))
    before = place.kvs()
    with pytest.raises(InvalidArgumentError, match=f"{LARGEST_SHARED + 1} bytes.*{LARGEST_SHARED}"):
        member.share("k", "x" * (LARGEST_SHARED - 1))
    assert place.kvs() == before


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, b"bytes"])
def test_a_value_that_is_no_json_is_refused(place: Place, value: object) -> None:
    """Nothing is pickled, ever."""
    (member,) = place.start({"worker": 1})
    before = place.kvs()
    with pytest.raises(InvalidArgumentError, match="JSON"):
        member.share("k", value)
    assert place.kvs() == before
