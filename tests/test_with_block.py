"""Leaving the with block: each way out tells the others what it was."""

from __future__ import annotations

import pytest
from jobs import PATIENCE, TWO, Place, call, raised

from psbarrier import Member, Policy
from psbarrier.errors import (
    JobFailedError,
    StoreUnavailableError,
)
from psbarrier.state import MemberState

FORGIVING = Policy(max_restarts=2)


def lost(place: Place, watcher: Member) -> dict[str, str]:
    """Who is away, as `watcher` has heard."""
    return {str(task): loss.why for task, loss in watcher._view.gone.lost.items()}


# -- leaving the with block


class BrokenError(Exception):
    """A user's own error."""


def test_leaving_the_block_after_the_gate_finishes_the_task(place: Place) -> None:
    """No call is needed for the good end."""
    with place.join("worker", 0, replicas={"worker": 1}) as member:
        member.cluster(PATIENCE)
    assert place.join("worker", 0, replicas={"worker": 1}, run=None).run != member.run
    assert member.state is MemberState.CLOSED
    assert any("control/state" in kv.key and b"succeeded" in kv.value for kv in place.kvs())


def test_leaving_the_block_before_the_gate_finishes_nothing(place: Place) -> None:
    """Whoever never started to work has not done it."""
    with place.join("worker", 0, replicas={"worker": 1}):
        pass
    assert place.join("worker", 0, replicas={"worker": 1}).restarts == 0


@pytest.mark.parametrize(
    ("error", "kind", "text", "code"),
    [
        (BrokenError("no luck"), "crashed", "BrokenError: no luck", 1),
        (SystemExit(3), "crashed", "code 3", 3),
        (SystemExit("so long"), "crashed", "so long", 1),
        (KeyboardInterrupt(), "left", "interrupted", 0),
    ],
)
def test_leaving_the_block_with_an_error_says_so_to_the_others(
    place: Place, error: BaseException, kind: str, text: str, code: int
) -> None:
    """They learn the kind and the text at once, and the error itself is passed on unchanged."""
    watcher = place.join("worker", 0, policy=FORGIVING)
    member = place.join("worker", 1, policy=FORGIVING)
    watcher.cluster(PATIENCE)
    with pytest.raises(type(error)) as passed, member:
        raise error
    assert passed.value is error
    place.until(lambda: lost(place, watcher).get("worker/1", "").startswith(kind))
    assert text in lost(place, watcher)["worker/1"]
    again = place.join("worker", 1, policy=FORGIVING)
    assert again.restarts == (kind == "crashed")
    assert f'"exit":{code},' in place.departure(member.task)


@pytest.mark.parametrize("code", [0, None])
def test_a_clean_exit_is_a_good_end(place: Place, code: int | None) -> None:
    """sys.exit(0) is how many programs end."""
    member = place.join("worker", 0, replicas={"worker": 1})
    member.cluster(PATIENCE)
    with pytest.raises(SystemExit), member:
        raise SystemExit(code)
    assert member.job_state.phase == "succeeded"


def test_the_failure_of_another_is_no_crash_of_ours(place: Place) -> None:
    """A JobFailedError that leaves the block is not reported as a second failure."""
    first, second = place.start(TWO)
    first.fail("mine", 1)
    with pytest.raises(JobFailedError), second:
        second.barrier("b").wait(PATIENCE)
    assert first.job_state.by == "worker/0"


def test_what_goes_wrong_with_the_report_does_not_hide_the_error(memory: Place) -> None:
    """etcd out of reach: the user's own exception is still what is raised."""
    store = memory.memory_client()
    member = memory.join("worker", 0, store=store)

    def work() -> None:
        with member:
            store.cut()
            raise BrokenError("no luck")

    ended = call(work)
    memory.until(ended.done)
    assert isinstance(raised(ended), BrokenError)


def test_finishing_without_etcd_is_an_error_after_a_minute(memory: Place) -> None:
    """The caller must learn that the end of its work was not recorded."""
    store = memory.memory_client()
    member = memory.join("worker", 0, store=store)
    store.cut()
    ended = call(member.finish)
    memory.until(ended.done, step=1.0)
    assert isinstance(raised(ended), StoreUnavailableError)
