"""Life: what one process of a task does, call by call, each recorded: what any training job does with psbarrier."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psbarrier
from faults.plan import JOB, RUN, BarrierPlan, Plan
from faults.recording import Recorder, now
from psbarrier.barrier import PATIENCE
from psbarrier.errors import (
    AlreadyFinishedError,
    BarrierBrokenError,
    BarrierOutcomeUnknownError,
    ClosedError,
    GateTimeoutError,
    JobFailedError,
    JobOverError,
    PsBarrierError,
    ShareTimeoutError,
    SlotLostError,
    SlotTakenError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from psbarrier.policy import Policy
from psbarrier.spec import ClusterSpec
from psbarrier.store.base import Put, Store, Txn

R = TypeVar("R")

JOIN = 20.0
CHECKPOINT = 10.0
"""Seconds for a transaction of the user's own."""
CLOSING = 2.0
CODES = {
    JobFailedError: 21,
    JobOverError: 0,
    AlreadyFinishedError: 0,
    SlotLostError: 20,
    SlotTakenError: 23,
    StoreError: 22,
}
ACCIDENT, LEFT, UNEXPECTED = 24, 25, 1


class AccidentError(Exception):
    """The training program has a bug."""


def policy_of(plan: Plan) -> Policy:
    return Policy(
        loss_grace=plan.loss_grace,
        max_restarts=plan.max_restarts,
        retention=1.0 if plan.fleeting else 3600.0,
    )


class Life:
    """One process of a task, from its join to its end."""

    def __init__(
        self, plan: Plan, slot: str, serial: int, manner: str, folder: Path, recorder: Recorder, store: Store
    ) -> None:
        self.plan, self.slot, self.manner, self.folder = plan, slot, manner, folder
        self.task = plan.task(slot)
        self.recorder, self.store = recorder, store
        self.rng = random.Random(f"{plan.seed} {plan.round} {slot} {serial}")

    def run(self) -> int:
        """Live; the exit code."""
        try:
            me = self.recorder.call("join", JOIN, self._join)
            self._stand(me)
            self._in_block(me)
            return 0
        except KeyboardInterrupt:
            return LEFT
        except AccidentError:
            return ACCIDENT
        except PsBarrierError as error:
            code = next((code for kind, code in CODES.items() if isinstance(error, kind)), UNEXPECTED)
            if code == UNEXPECTED:
                self._complain(error)
            return code
        except Exception as error:  # noqa: BLE001  # it is for the checker to judge
            self._complain(error)
            return UNEXPECTED

    def _complain(self, error: BaseException) -> None:
        traceback.print_exception(error)
        self.recorder.write(what="unexpected", at=now(), error=type(error).__name__, text=str(error)[:500])

    def _join(self) -> psbarrier.Member:
        plan, task = self.plan, self.task
        if self.manner == "child":
            return psbarrier.join(self.store, timeout=JOIN)
        return psbarrier.join(
            self.store,
            JOB,
            task.role,
            task.index if plan.named_index else None,
            replicas=plan.replicas,
            address=f"{task.role}-{task.index}:{os.getpid() % 60000 + 1}",
            run=RUN if plan.named_run else None,
            ttl=plan.ttl,
            takeover="force" if self.manner == "usurper" and plan.named_index else "wait",
            policy=policy_of(plan),
            timeout=JOIN,
        )

    def _stand(self, me: psbarrier.Member) -> None:
        self.recorder.write(
            what="standing",
            at=now(),
            task=str(me.task),
            incarnation=me.incarnation,
            token=me.token,
            run=me.run,
            lease=me.lease,
        )

    def _in_block(self, me: psbarrier.Member) -> None:
        """As `with me:`, whose end is recorded like a call."""
        try:
            self._live(me)
        except BaseException as error:
            how = type(error), error, error.__traceback__
            self.recorder.call("exit", PATIENCE + CLOSING, lambda: me.__exit__(*how), why=repr(error))
            raise
        self.recorder.call("exit", PATIENCE + CLOSING, lambda: me.__exit__(None, None, None), why="")

    def _live(self, me: psbarrier.Member) -> None:
        self._insist("cluster", self.plan.wait, lambda: self._sealed(me.cluster(self.plan.wait)))
        for duty in (self._hear_changes, self._keep_checkpoints):
            threading.Thread(target=duty, args=(me,), daemon=True).start()
        self._tell(me)
        for barrier in self.plan.barriers:
            if me.task.role in barrier.roles:
                self._meet(me, barrier)
        time.sleep(self.task.linger)
        if me.task.role != "worker":
            self.recorder.call("wait_job", None, lambda: me.wait_job().phase)
        elif self.task.finish == "call":
            self._insist("finish", PATIENCE, me.finish)

    def _tell(self, me: psbarrier.Member) -> None:
        """One tells values, and the others wait for them."""
        for number in range(self.plan.shares):
            name = f"value-{number}"
            if str(me.task) == "worker/1":
                time.sleep(self.plan.work)
                self._insist("share", PATIENCE, lambda name=name: me.share(name, self.plan.seed), key=name)  # type: ignore[misc]
            else:
                self._insist("get", self.plan.wait, lambda name=name: me.get(name, self.plan.wait), key=name)  # type: ignore[misc]

    def _insist(self, name: str, limit: float | None, action: Callable[[], R], **args: Any) -> R:
        """Try again what failed because etcd was away, or because others were."""
        while True:
            try:
                return self.recorder.call(name, limit, action, **args)
            except (StoreUnavailableError, StoreRefusedError, GateTimeoutError, ShareTimeoutError):
                time.sleep(0.1)

    def _sealed(self, spec: ClusterSpec) -> dict[str, Any]:
        text = repr([(str(member.task), member.address, member.incarnation) for member in spec.members])
        return {"epoch": spec.epoch, "digest": hashlib.sha256(text.encode()).hexdigest()[:16]}

    def _meet(self, me: psbarrier.Member, plan: BarrierPlan) -> None:
        barrier = self._insist("barrier", PATIENCE, lambda: me.barrier(plan.name, plan.roles, plan.on_loss))
        number = 0
        while barrier.generation < plan.generations:
            time.sleep(self.task.pace * self.plan.work * self.rng.uniform(0.5, 1.5))
            if self._accident() in self.task.aborts:
                self._insist("abort", PATIENCE, barrier.abort, barrier=plan.name)
            generation = barrier.generation
            if generation >= plan.generations:
                return
            number += 1
            named = generation if self.rng.random() < 0.5 else None
            try:
                self.recorder.call(
                    "wait",
                    self.plan.wait,
                    lambda named=named: barrier.wait(self.plan.wait, named),  # type: ignore[misc]
                    barrier=plan.name,
                    generation=generation,
                    number=number,
                )
            except BarrierBrokenError:
                self._insist("reset", PATIENCE, barrier.reset, barrier=plan.name)
            except BarrierOutcomeUnknownError:
                continue

    def _accident(self) -> int:
        """The bug of the training program shows at certain waits, counted over all incarnations of the task; the count."""
        path = self.folder / f"waits-{self.slot.replace('/', '-')}"
        with open(path, "a", encoding="ascii") as file:
            file.write(".")
            file.flush()
            count = file.tell()
        if count in self.task.crashes:
            raise AccidentError(f"the bug of wait {count}")
        return count

    # -- beside the main thread

    def _hear_changes(self, me: psbarrier.Member) -> None:
        changes = me.changes(self.plan.wait)
        while True:
            try:
                self.recorder.call("changes", self.plan.wait, lambda it=changes: self._sealed(next(it)))  # type: ignore[misc]
            except GateTimeoutError:
                changes = me.changes(self.plan.wait)
            except StoreUnavailableError:
                time.sleep(0.1)
                changes = me.changes(self.plan.wait)
            except (StopIteration, PsBarrierError):
                return

    def _keep_checkpoints(self, me: psbarrier.Member) -> None:
        """Writes of the user's own, which etcd refuses once the task is lost."""
        key = f"/user/{me.task}"
        for count in itertools.count():
            time.sleep(self.plan.checkpoint)
            try:
                guard = self.recorder.call("guard", None, me.guard)
                unique = f"{me.incarnation}/{count}"
                txn = Txn(guard, (Put(key, unique.encode(), me.lease),))
                self.recorder.call("checkpoint", CHECKPOINT, lambda txn=txn: self._write(txn), unique=unique)  # type: ignore[misc]
            except (ClosedError, SlotLostError):
                return
            except PsBarrierError:
                continue

    def _write(self, txn: Txn) -> bool:
        return self.store.txn(txn, until=self.store.clock.now() + CHECKPOINT).succeeded
