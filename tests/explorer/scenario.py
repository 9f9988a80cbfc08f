"""Scenario: what is decided before anything runs: the job, its settings, and how much may go wrong."""

from __future__ import annotations

from attrs import field, frozen

from psbarrier.protocol.keys import JobKeys, RunKeys
from psbarrier.protocol.records import Config

JOB = JobKeys("/p", "j")
RUN = "r"
TTL = 15
SECOND = 1.0
"""Waits up to this many seconds are the protocol's own small ones; longer ones pass only within a budget."""
BARRIER = "epoch"
DEADLINE = 4.0
"""Seconds that a `wait()` with a deadline waits: less than Patience takes to its first word."""
GRACE_OF_LOSS = 3.0

QUIET = dict.fromkeys(
    (
        "abort",  # somebody aborts the job from outside
        "crash",  # a process dies without a word
        "crash_report",  # a process ends with an error and says so
        "drop",  # a request, or its reply, is lost; or the request comes much later
        "expire",  # the lease of a process ends, which goes on without knowing
        "fail",  # a task fails the job
        "force",  # a second process takes a task by force
        "interrupt",  # Ctrl-C at a barrier
        "leave",  # a process is told to leave
        "long",  # a wait of the protocol's own takes seconds: a report, a grace, a sign of life
        "meddle",  # a second thread aborts and resets the barrier, and shares values
        "refuse",  # etcd refuses a write of the leader's
        "resync",  # a watch has a gap, and starts anew with a snapshot
        "run_lease",  # the whole run goes
        "stall",  # a main thread is busy with something else for a while
        "timeout",  # a caller's own deadline passes
    ),
    0,
)


@frozen
class Scenario:
    """One job. `generations` is how often the tasks of `roles` meet at the barrier.

    The rest shapes the schedule: how many `steps` there are until nothing fails any more; how likely each of them is to
    be `trouble`, the delivery of a watch (`eager`), the end of a wait (`haste`) or what comes `late`; whether trouble
    begins only when all have passed the gate (`calm_start`), whether what is lost comes back only at the end
    (`slow_restarts`), and how likely trouble hits those who wait at the barrier (`aim`).
    """

    seed: int
    config: Config
    named_run: bool = True
    named_index: bool = True
    generations: int = 0
    roles: tuple[str, ...] = ("worker",)
    steps: int = 200
    trouble: float = 0.1
    eager: float = 0.4
    haste: float = 0.05
    late: float = 0.05
    aim: float = 0.5
    calm_start: bool = False
    slow_restarts: bool = False
    on_loss: tuple[str, ...] = ("wait", "break")
    budget: dict[str, int] = field(factory=dict)

    @property
    def keys(self) -> RunKeys:
        """The keys of the run that everybody names, where a run is named."""
        return JOB.run(RUN)

    @property
    def quiet(self) -> bool:
        """Nothing goes wrong, so everything must end well."""
        return not any(self.budget.values())
