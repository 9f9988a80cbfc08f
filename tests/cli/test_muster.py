"""The commands of a collective start again together: none meets an old one, and none waits for whoever will not come."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import helpers
from cli.helpers import Command, finished, psbarrier, run_args, unique
from psbarrier import Policy, join
from psbarrier.embedded import EtcdServer

pytestmark = pytest.mark.e2e


def lines(command: Command) -> list[str]:
    return sorted(command.out.splitlines())


def test_the_commands_of_a_collective_start_again_together(tmp_path: Path) -> None:
    """When one was replaced; none before the old ones have all ended, or it would meet them."""
    old = f"trap 'sleep 2; touch {tmp_path}/ended; exit' TERM; touch {tmp_path}/ready; while :; do sleep 0.02; done"
    victim = f"until [ -e {tmp_path}/ready ]; do sleep 0.02; done; kill -9 $$"
    code = (
        "if [ $PSBARRIER_EPOCH = 1 ]; then case $PSBARRIER_INDEX in "
        f"0) {old};; 1) {victim};; *) exec sleep 1000;; esac; fi; "
        f"ls {tmp_path}/ended && echo $RANK $PSBARRIER_RESTARTS"
    )
    command = finished(
        tmp_path, None, "local", "--worker", "3", "--max-restarts", "1", "--emit", "torch", "--", "sh", "-c", code
    )
    assert command.code() == 0, command.text
    assert [line for line in lines(command) if not line.endswith("ended")] == [
        "[worker/0] 0 0",
        "[worker/1] 1 1",
        "[worker/2] 2 0",
    ]


def test_the_commands_of_a_collective_do_not_wait_for_one_that_is_done(tmp_path: Path) -> None:
    """It has finished, and will not come: what that means for the others is the framework's to say."""
    code = (
        "[ $PSBARRIER_INDEX = 0 ] && exit 0; "
        f"if [ $PSBARRIER_EPOCH = 1 ]; then touch {tmp_path}/$PSBARRIER_INDEX; "
        f"until [ -e {tmp_path}/1 ] && [ -e {tmp_path}/2 ]; do sleep 0.02; done; "
        "[ $PSBARRIER_INDEX = 2 ] && exec sleep 1000; exit 3; fi; echo again"
    )
    options = ("--max-restarts", "1", "--success", "worker", "--emit", "torch")
    command = finished(tmp_path, None, "local", "--worker", "3", *options, "--", "sh", "-c", code)
    assert command.code() == 0, command.text
    assert lines(command) == ["[worker/1] again", "[worker/2] again"]


def test_a_collective_starts_again_without_those_who_use_no_psbarrier_run(
    etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells when their earlier work has ended, so they are waited for no longer than a command's grace and a bit.
    (Here the bit is shorter.)"""
    job, three = unique(), "worker=3"
    shorter = f"from psbarrier.cli import muster; muster.MARGIN = 0.5; {helpers.MAIN[-1]}"
    monkeypatch.setattr(helpers, "MAIN", (*helpers.MAIN[:-1], shorter))
    options = ("--emit", "torch", "--grace", "0.5", "--max-restarts", "1", "--index")
    say = ("sh", "-c", "echo epoch $PSBARRIER_EPOCH; exec sleep 1000")
    with (
        psbarrier(tmp_path, etcd, *run_args(job, *options, "0", replicas=three), *say) as first,
        join(etcd.endpoint, job, "worker", 1, replicas=three, policy=Policy(max_restarts=1)),
    ):
        assert finished(tmp_path, etcd, *run_args(job, *options, "2", replicas=three), "false").code() == 1
        with psbarrier(tmp_path, etcd, *run_args(job, *options, "2", replicas=three), *say) as second:
            assert first.says("epoch 2"), first.text
            assert second.says("epoch 2"), second.text
