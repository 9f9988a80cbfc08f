"""Plan: what to launch, as which task of which job, and how patiently."""

from __future__ import annotations

import shutil
from typing import Literal

from attrs import field, frozen

from psbarrier.arguments import seconds
from psbarrier.asking import JOIN_TIMEOUT, TTL, check_ttl
from psbarrier.cli import environment
from psbarrier.emit import replaces_nobody
from psbarrier.errors import InvalidArgumentError
from psbarrier.flows.refusals import check_slot
from psbarrier.policy import Policy
from psbarrier.protocol.records import Config
from psbarrier.spec import Replicas, check_address, check_name

GATE_TIMEOUT = 600.0
GRACE = 30.0


@frozen
class Plan:
    """What `psbarrier run` was asked for; times are in seconds. `index` None takes the lowest free slot of the role."""

    job: str
    role: str
    index: int | None
    replicas: Replicas
    command: tuple[str, ...]
    run: str | None = None
    address: str | None = None
    ttl: int = TTL
    takeover: Literal["wait", "force"] = "wait"
    policy: Policy = field(factory=Policy)
    emit: tuple[str, ...] = ()
    join_timeout: float = JOIN_TIMEOUT
    gate_timeout: float = GATE_TIMEOUT
    grace: float = GRACE
    on_epoch: Literal["ignore", "restart"] | None = None
    """What to do when a member was replaced; None: what the frameworks need."""
    resolve: bool = False
    ready_file: str | None = None

    @property
    def restarts(self) -> bool:
        """Whether the command is started again when a member was replaced."""
        if self.on_epoch is None:
            return replaces_nobody(self.emit, self.replicas.roles)
        return self.on_epoch == "restart"

    @property
    def together(self) -> bool:
        """Whether the commands of all tasks are one group, which starts again as a whole."""
        return self.restarts and replaces_nobody(self.emit, self.replicas.roles)

    def check(self) -> None:
        """Raises InvalidArgumentError for what can never work; nothing is sent to etcd."""
        check_name("job", self.job)
        if self.run is not None:
            check_name("run", self.run)
        if self.address is not None:
            check_address(self.address)
        check_ttl(self.ttl)
        for name in ("join_timeout", "gate_timeout", "grace"):
            seconds(name, getattr(self, name))
        check_slot(Config(self.replicas, self.policy), self.role, self.index)
        environment.check_formats(self.emit, self.job, self.replicas, self.role, self.address)
        if shutil.which(self.command[0]) is None:
            raise InvalidArgumentError(
                f"the command {self.command[0]!r} is not a program that can be found and run: check its name, its path "
                "and its permissions"
            )
