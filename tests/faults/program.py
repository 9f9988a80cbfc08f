"""Program: what a member's process runs, as `python -m faults.program FOLDER SLOT SERIAL MANNER`.

MANNER is "bare"; "usurper", who takes the task by force; "guardian", which becomes `psbarrier run`; or "child", its
command. The flaw of the plan, if it has one, is planted before anything else happens.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from explorer.flaws import planted

from faults.life import JOIN, Life, policy_of
from faults.mistakes import flaw_named
from faults.plan import JOB, RUN, Plan
from faults.recording import Recorder
from faults.tap import tap
from psbarrier.flows import duty, joining
from psbarrier.protocol.handover import VARIABLE
from psbarrier.store.etcd import EtcdStore


def guardian(plan: Plan, slot: str, serial: int, folder: str) -> None:
    """Become `psbarrier run`."""
    task = plan.task(slot)
    arguments = [
        *("run", "--job", JOB, "--role", task.role, "--ttl", str(plan.ttl), "--grace", "2"),
        *("--replicas", ",".join(f"{role}={count}" for role, count in plan.replicas.items())),
        *("--loss-grace", str(plan.loss_grace), "--max-restarts", str(plan.max_restarts)),
        *("--retention", str(policy_of(plan).retention), "--join-timeout", str(JOIN)),
        *(("--run", RUN) if plan.named_run else ()),
        *(("--index", str(task.index)) if plan.named_index else ()),
        *("--", sys.executable, "-m", "faults.program", folder, slot, str(serial), "child"),
    ]
    from psbarrier.cli.main import cli

    cli(arguments, prog_name="psbarrier")


def shorten() -> None:
    """A run that is fleeting goes after four TTLs, and not only after a minute."""
    for module in (duty, joining):
        setattr(module, "MIN_RETENTION", 1.0)  # noqa: B010  # it is imported there, and not exported


def _leave(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def main(folder: str, slot: str, serial: int, manner: str) -> int:
    plan = Plan.loads((Path(folder) / "plan.json").read_text())
    name = f"{slot.replace('/', '-')}-{serial}{'' if manner == 'bare' else f'-{manner}'}"
    recorder = Recorder(Path(folder) / f"calls-{name}.jsonl", slot=slot, serial=serial, manner=manner)
    with ExitStack() as flaws:
        if plan.flaw:
            flaws.enter_context(planted(flaw_named(plan.flaw)))
        if plan.fleeting:
            shorten()
        tap(recorder)
        if manner == "guardian":
            guardian(plan, slot, serial, folder)  # leaves by SystemExit
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if plan.task(slot).term == "leave":
            signal.signal(signal.SIGTERM, _leave)
        assert manner != "child" or os.environ.get(VARIABLE)
        with EtcdStore(os.environ["PSBARRIER_ENDPOINTS"]) as store:
            return Life(plan, slot, serial, manner, Path(folder), recorder, store).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
