"""torch's rendezvous on psbarrier: the nodes of a torchrun job are the members of an elastic job.

Each node holds a task under a lease, one of them leads and seals the membership as epochs, and a round of torch's
rendezvous is an epoch that all its members have taken up (`Member.rendezvous`). etcd holds the membership only. What the
agents and the workers tell each other goes through TCPStores on the host of rank 0: one that every node opens before it
joins, whose address is its registration's, and for the workers a fresh one each round, for torch does not tell the keys
of one round from those of the next when only the membership has changed.

The interface is torch.distributed.elastic.rendezvous.RendezvousHandler's, as of torch 2.6 to 2.13.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStateError,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
)

# What connecting would import: here, and not when all nodes of a job begin to.
import psbarrier.store.etcd  # noqa: F401
from psbarrier.address import default_address
from psbarrier.connect import answered, open_store
from psbarrier.errors import (
    BarrierBrokenError,
    ClosedError,
    InvalidArgumentError,
    JobMismatchError,
    JobOverError,
    MalformedValueError,
    PsBarrierError,
    SlotLostError,
)
from psbarrier.join import join
from psbarrier.member import Member
from psbarrier.policy import Policy
from psbarrier.spec import ClusterSpec, Replicas, check_name, host_of, port_of
from psbarrier.state import MemberState
from psbarrier.store.base import Store

ROLE = "node"
JOIN_TIMEOUT = 600.0
"""Seconds for a whole rendezvous, as in torch's own dynamic rendezvous."""
CONNECT_TIMEOUT = 20.0
"""Seconds in which etcd must answer for the first time."""
STORE_TIMEOUT = 60.0
"""Seconds in which rank 0 must answer on its TCPStore; it has just been at the rendezvous."""
_OPTIONS = {
    "join_timeout": JOIN_TIMEOUT,
    "last_call_timeout": Policy().last_call,
    "settling": Policy().settling,
    "ttl": 15,
    "prefix": "",
    "guardian": 0,
    "timeout": 0,
}
"""What --rdzv-conf may say. torchrun always adds a `timeout`, which is not for us."""


class TorchRendezvous(RendezvousHandler):  # type: ignore[misc]  # torch is not there where types are checked
    """One node's part in the rendezvous of a job, whose name is torch's run id.

    `--rdzv-conf` may set `join_timeout` (600) for a whole rendezvous, `last_call_timeout` (30) that more nodes are waited
    for when the minimum is there, `settling` (3) without a further change before the next round, `ttl` (15) after which a
    node that is silent is given up, all in seconds; `prefix` in etcd; and `guardian=1`, a process that keeps this node's
    lease and tells of the agent's death at once. TLS and the user come from the PSBARRIER_… variables.
    """

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._options = _options(parameters.config)
        self._job = check_name("job", parameters.run_id)
        bounds = (parameters.min_nodes, parameters.max_nodes)
        self._replicas, self._local = Replicas.of({ROLE: bounds}), parameters.local_addr
        self._policy = Policy(
            success=(ROLE,),
            loss_grace=self._options["join_timeout"],
            last_call=self._options["last_call_timeout"],
            settling=self._options["settling"],
        )
        with _translated():
            store = open_store(parameters.endpoint or None, prefix=self._options["prefix"] or None)
            # Patiently, for the agents of all nodes of a machine may start at once.
            self._store: Store = answered(store, CONNECT_TIMEOUT)
        self._host = ""
        self._server: Any = None
        self._member: Member | None = None
        self._round: ClusterSpec | None = None
        self._workers: Any = None  # the store of this round's workers, as long as we are the one that has it
        self._closed = False
        # An agent that a signal ends does not shut its rendezvous down: its lease would hold its place for a TTL.
        atexit.register(self._leave)

    def get_backend(self) -> str:
        """The name that torchrun knows this by."""
        return "psbarrier"

    def get_run_id(self) -> str:
        """The job's name."""
        return self._job

    @property
    def use_agent_store(self) -> bool:
        """Whether the workers use the store that rank 0's agent opened for them, in place of one of their own."""
        return os.getenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "0") != "1"

    # -- the rounds

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait until all nodes of an epoch are here, which is a later one than last time; this node's rank among them.

        Raises RendezvousTimeoutError after `join_timeout` with who is missing and why, RendezvousClosedError,
        RendezvousConnectionError when etcd is out of reach, and RendezvousStateError when other nodes disagree on the
        bounds or another program has spoilt a key.
        """
        until = time.monotonic() + self._options["join_timeout"]
        while True:
            with _translated():
                if self.is_closed():
                    raise RendezvousClosedError(f"the rendezvous of job {self._job!r} is closed")
                try:
                    member = self._ready(until)
                    spec = member.rendezvous(_left(until))
                except SlotLostError:
                    if time.monotonic() >= until:
                        raise
                    self._give_up()
                    continue  # with a new hold on a place; the others go on without the one that was lost
                self._round = spec
            found = self._meet(member, spec, until)
            if found is not None:
                return found

    def _ready(self, until: float) -> Member:
        """A member for which there is, or will be, a later epoch than the last round's."""
        member = self._member
        if member is not None and (self._round is None or member.epoch > self._round.epoch):
            return member
        # Nobody has come or gone: it is our workers that must start anew, and so everybody's.
        self._give_up()
        if self._server is None:
            self._open_server()
        address = f"[{self._host}]" if ":" in self._host else self._host
        self._member = join(
            self._store,
            self._job,
            ROLE,
            replicas=self._replicas,
            policy=self._policy,
            address=f"{address}:{self._server.port}",
            ttl=int(self._options["ttl"]),
            guardian=bool(self._options["guardian"]),
            timeout=_left(until),
        )
        return self._member

    def _give_up(self) -> None:
        """This node's place is free, and the others hear of it."""
        if self._member is not None:
            self._member.close()
        self._member, self._round = None, None

    def _open_server(self) -> None:
        """The store that the agents use if this node becomes rank 0."""
        self._host = self._local or host_of(default_address(self._store.endpoints))
        self._server = _serve(self._host)

    def _meet(self, member: Member, spec: ClusterSpec, until: float) -> RendezvousInfo | None:
        """Meet the others at the store of rank 0; None when that has gone since, and the next epoch is without it."""
        tasks = [each.task for each in spec.members]
        rank = tasks.index(member.task)
        self._workers = None
        try:
            address = spec.members[0].address
            host, port = host_of(address), port_of(address)
            wait = timedelta(seconds=max(1.0, min(STORE_TIMEOUT, _left(until))))
            client = dist.TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=wait)
            store = dist.PrefixStore(f"psbarrier/{member.run}/{spec.epoch}", client)
            if rank == 0 and self.use_agent_store:
                self._workers = _serve(self._host)
            port_of_workers = self._workers.port if self._workers is not None else None
            info = RendezvousStoreInfo.build(rank, store, self._host, port_of_workers)
        except (RuntimeError, OSError) as error:  # torch's DistError is a RuntimeError
            if time.monotonic() >= until:
                raise RendezvousTimeoutError(
                    f"the store of rank 0 ({spec.members[0].task} at {spec.members[0].address}) could not be reached "
                    f"before the join timeout: {error}"
                ) from error
            return None
        return RendezvousInfo(store, rank, len(tasks), info)

    def num_nodes_waiting(self) -> int:
        """More than 0 once a later epoch is sealed: nodes have come, or gone, and all must meet again. No request."""
        member, known = self._member, self._round
        if member is None or known is None:
            return 0
        if member.state is MemberState.LOST:
            return 1  # we are: the others go on without us, until we join again
        return int(member.epoch > known.epoch and not member.job_state.over)

    # -- the end

    def is_closed(self) -> bool:
        """Whether some node has closed the rendezvous, as far as this one has heard. No request."""
        member = self._member
        if self._closed or member is None or member.state is not MemberState.CONNECTED:
            return self._closed
        return member.job_state.over or member.closing

    def set_closed(self) -> None:
        """Let nobody meet any more: this node has finished, and the job ends when those have that are at work."""
        with _translated():
            self._finish(self._member or self._ready(time.monotonic() + self._options["join_timeout"]))
        self._closed = True

    def _finish(self, member: Member) -> None:
        """As far as there is something to finish, and nobody has ended it."""
        with contextlib.suppress(JobOverError, SlotLostError, ClosedError):
            if self._round is not None:
                member.finish()
            elif member.epoch == 0:
                member.fail("its rendezvous was closed before it began")

    def shutdown(self) -> bool:
        """Close the rendezvous and give this node's place up; False when etcd could not be told.

        torchrun calls this while the error of a failed agent is on its way up. The job fails by that, then, and
        `psbarrier status` says why; unless the node had never been at work, as one that came too late.
        """
        error, member, self._closed = sys.exc_info()[1], self._member, True
        try:
            if member is not None and self._round is not None:
                if isinstance(error, Exception):
                    with contextlib.suppress(SlotLostError, ClosedError):
                        member.crash(f"{type(error).__name__}: {error}")
                else:
                    self._finish(member)
            return True
        except PsBarrierError:
            return False
        finally:
            self._leave()

    def _leave(self) -> None:
        atexit.unregister(self._leave)
        if self._member is not None:
            self._member.close()
        self._store.close()
        self._server = self._workers = None


def _serve(host: str) -> Any:
    """A TCPStore of this process, on a port that is free."""
    return dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, multi_tenant=True)


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """What --rdzv-conf says, with the defaults; InvalidArgumentError for what it may not say."""
    options: dict[str, Any] = dict(_OPTIONS)
    for name, value in given.items():
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name, _OPTIONS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidArgumentError(f"--rdzv-conf has no option {name!r} with the backend psbarrier{hint}")
        try:
            options[name] = value if isinstance(_OPTIONS[name], str) else float(value)
        except ValueError as error:
            raise InvalidArgumentError(f"--rdzv-conf says {name}={value!r}, which is no number") from error
    return options


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """psbarrier's errors as the ones that torch's agent knows."""
    try:
        yield
    except (JobOverError, BarrierBrokenError) as error:
        kind = RendezvousTimeoutError if isinstance(error, TimeoutError) else RendezvousClosedError
        raise kind(str(error)) from error
    except (JobMismatchError, MalformedValueError) as error:
        raise RendezvousStateError(str(error)) from error
    except InvalidArgumentError:
        raise
    except PsBarrierError as error:
        kind = RendezvousTimeoutError if isinstance(error, TimeoutError) else RendezvousConnectionError
        raise kind(str(error)) from error
