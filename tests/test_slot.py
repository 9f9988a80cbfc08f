"""A slot, one number over all roles, in place of a role and an index."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.helpers import finished, invoke, unique
from jobs import Place

from psbarrier import InvalidArgumentError, join
from psbarrier.embedded import EtcdServer
from psbarrier.spec import Replicas

SAY = ("sh", "-c", 'echo "$PSBARRIER_ROLE/$PSBARRIER_INDEX slot=$PSBARRIER_SLOT"')


def test_the_slots_go_through_the_roles_by_name() -> None:
    """However the replicas were written."""
    replicas = Replicas.of("worker=2,ps=1,chief=1")
    assert [str(replicas.at(slot)) for slot in range(4)] == ["chief/0", "ps/0", "worker/0", "worker/1"]


@pytest.mark.parametrize("slot", [-1, 4, True, 1.0, "1"])
def test_a_slot_that_there_is_not_is_refused(slot: object) -> None:
    """With the slots that there are."""
    with pytest.raises(InvalidArgumentError, match="slots 0 to 3"):
        Replicas.of("ps=4").at(slot)  # type: ignore[arg-type]


def test_join_takes_its_task_from_the_variable(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither role nor index is given; an argument goes before a variable, as everywhere."""
    for name in ("ROLE", "INDEX"):
        monkeypatch.delenv(f"PSBARRIER_{name}", raising=False)
    monkeypatch.setenv("PSBARRIER_SLOT", "2")
    with join(memory.client(), memory.job, replicas="ps=1,worker=2", run="r", address="h:1") as me:
        assert str(me.task) == "worker/1"
    with join(memory.client(), memory.job, "ps", replicas="ps=1,worker=2", run="q", address="h:1") as me:
        assert str(me.task) == "ps/0"


def test_a_slot_and_a_role_contradict_each_other(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two would be wrong; nothing is sent."""
    monkeypatch.setenv("PSBARRIER_SLOT", "2")
    monkeypatch.setenv("PSBARRIER_ROLE", "ps")
    with pytest.raises(InvalidArgumentError, match="leave one of the two out"):
        join(memory.client(), memory.job, replicas="ps=1,worker=2", address="h:1")
    monkeypatch.setenv("PSBARRIER_SLOT", "9")
    with pytest.raises(InvalidArgumentError, match="PSBARRIER_SLOT is no use: slot 9 is out of range"):
        join(memory.client(), memory.job, replicas="ps=1,worker=2", address="h:1")


@pytest.mark.e2e
def test_run_takes_a_slot(etcd: EtcdServer, tmp_path: Path) -> None:
    """As an option, or from the variable; its command sees the role and the index, and no slot."""
    options = ("run", "--replicas", "ps=1,worker=1", "--success", "worker", "--gate-timeout", "1")
    for given, variables in ((("--slot", "1"), {}), ((), {"PSBARRIER_SLOT": "1"})):
        done = finished(tmp_path, etcd, *options, "--job", unique(), *given, "--", *SAY, **variables)
        assert done.process.returncode == 111
        assert "ps/0" in done.err, done.text
    alone = ("run", "--replicas", "worker=1", "--job", unique(), "--slot", "0", "--", *SAY)
    done = finished(tmp_path, etcd, *alone)
    assert (done.out, done.process.returncode) == ("worker/0 slot=\n", 0), done.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "no role is given: pass --role, or --slot"),
        (("--slot", "1", "--role", "ps"), "leave one of the two out"),
        (("--slot", "1", "--index", "0"), "leave one of the two out"),
        (("--slot", "2"), "slots 0 to 1"),
    ],
)
def test_run_refuses_what_contradicts_itself(options: tuple[str, ...], said: str) -> None:
    """Before anything is sent."""
    done = invoke(
        None, "run", "--job", "j", "--replicas", "ps=1,worker=1", "--endpoints", "e:1", *options, "--", "true"
    )
    assert done.exit_code == 2
    assert said in done.output
