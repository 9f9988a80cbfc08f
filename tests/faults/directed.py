"""Directed: plans that bring one situation about, in which a mistake must show; and without one, nothing may."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import evolve

from faults.plan import BarrierPlan, Cue, Fault, Plan, TaskPlan

_WORKERS = (TaskPlan("worker/0"), TaskPlan("worker/1"))
_SECOND_LATER = (TaskPlan("worker/0"), TaskPlan("worker/1", pace=3.0))
_PLAIN = Plan(
    seed=0,
    round=0,
    theme="",
    etcds=1,
    barriers=(BarrierPlan("epoch", ("worker",), 8),),
    work=0.4,
    tasks=_WORKERS,
    calm=5.0,
)


def plain() -> Plan:
    """Three workers, and nothing happens."""
    tasks = (*_WORKERS, TaskPlan("worker/2"))
    return evolve(_PLAIN, replicas={"worker": 3}, tasks=tasks, calm=1.0, work=0.3)


def fleeting() -> Plan:
    """A run is kept for a few seconds only, unless somebody keeps it."""
    return evolve(_PLAIN, fleeting=True, calm=1.0, barriers=_long(40))


def blink() -> Plan:
    """A worker that waits loses etcd for a while, and the barrier is released meanwhile."""
    faults = [Fault("cut", 0.05, 2.3, "worker/0", cue=Cue("worker/0", "wait", count)) for count in (2, 4)]
    return evolve(
        _PLAIN, faults=tuple(faults), tasks=_SECOND_LATER, ttl=6, calm=8.0, wait=16.0, work=0.5, barriers=_long(5)
    )


def whisper() -> Plan:
    """A worker that waits for a value loses etcd for a moment, and the value is the very next thing that etcd hears."""
    cuts = [Fault("cut", 0.3, 0.6, "worker/0", cue=Cue("worker/1", "share", count)) for count in (2, 4)]
    return evolve(
        _PLAIN, faults=tuple(cuts), shares=6, work=0.6, checkpoint=60.0, calm=6.0, wait=12.0, barriers=_long(2)
    )


def forgetful() -> Plan:
    """As `blink`, and etcd forgets what happened meanwhile."""
    compactions = [Fault("forget", 2.2, cue=Cue("worker/0", "wait", count)) for count in (2, 4)]
    return evolve(blink(), faults=(*blink().faults, *compactions))


def asleep() -> Plan:
    """A worker is stopped for longer than its TTL, again and again, with an answer to its keep-alive on the way."""
    stops = [Fault("sigstop", at, 5.5, "worker/0") for at in (5.0, 14.0)]
    delay = Fault("delay", 3.5, 17.0, "worker/0", size=0.4)
    return evolve(_PLAIN, faults=(delay, *stops), ttl=3, calm=21.0, checkpoint=0.04, barriers=_long(40))


def deposed() -> Plan:
    """A leader of etcd that does not know yet that it was replaced tells of leases that it never heard of."""
    faults = (
        Fault("depose", 0.0, 4.5, "leader"),
        Fault("depose", 9.0, 4.5, "leader"),
        Fault("usurp", 11.0, 0.0, "worker/0"),
        Fault("usurp", 11.0, 0.0, "worker/1"),
    )
    return evolve(_PLAIN, etcds=3, faults=faults, calm=17.0, ttl=4, barriers=_long(40))


def torn() -> Plan:
    """The answers to writes of the user's own get lost."""
    cuts = [Fault("cut", 0.45, 0.5, "worker/0", cue=Cue("worker/0", "checkpoint", count)) for count in (3, 8, 13, 18)]
    delay = Fault("delay", 0.0, 20.0, "worker/0", size=0.3)
    return evolve(_PLAIN, faults=(delay, *cuts), calm=14.0, ttl=4, checkpoint=0.2, barriers=_long(14))


def last_word() -> Plan:
    """The answer to a worker's finish gets lost, while another one still works."""
    delay = Fault("delay", 0.0, 20.0, "worker/0", size=0.25)
    cut = Fault("cut", 0.38, 0.6, "worker/0", cue=Cue("worker/0", "finish"))
    tasks = (*_WORKERS, TaskPlan("worker/2", linger=3.0))
    return evolve(_PLAIN, faults=(delay, cut), replicas={"worker": 3}, tasks=tasks, calm=12.0, ttl=4, barriers=_long(3))


def usurped() -> Plan:
    """A second process takes a task by force, while the first one lives."""
    return evolve(_PLAIN, faults=tuple(Fault("usurp", at, 0.0, "worker/1") for at in (2.0, 4.0)), calm=6.0)


def returned() -> Plan:
    """A task that waits at a barrier is taken by another process, which comes to the same barrier."""
    faults = []
    for count in (3, 6):
        cue = Cue("worker/1", "wait", count)
        faults += [Fault("sigstop", 0.03, 3.0, "worker/0", cue=cue), Fault("usurp", 0.06, 0.0, "worker/1", cue=cue)]
    tasks = (TaskPlan("ps/0"), TaskPlan("worker/0", pace=3.0), TaskPlan("worker/1"))
    replicas = {"ps": 1, "worker": 2}
    return evolve(
        _PLAIN,
        replicas=replicas,
        tasks=tasks,
        faults=tuple(faults),
        ttl=5,
        calm=14.0,
        barriers=_long(9),
        wait=30.0,
        stagger=1.0,
    )


def late_decree() -> Plan:
    """What a leader has sent arrives after another has taken over."""
    tasks = (*_WORKERS, TaskPlan("worker/2"))
    cue = Cue("worker/1", "join", 2)
    faults = (
        Fault("delay", 4.0, 16.0, "worker/0", size=0.4),
        Fault("usurp", 6.0, 0.0, "worker/1"),
        Fault("cut", 1.45, 1.75, "worker/0", silent=True, cue=cue),
        Fault("revoke", 1.7, 0.0, "worker/0", cue=cue),
    )
    return evolve(
        _PLAIN,
        replicas={"worker": 3},
        tasks=tasks,
        faults=faults,
        ttl=12,
        calm=12.0,
        barriers=_long(18),
        wait=30.0,
        stagger=1.0,
        checkpoint=1.0,
    )


def impatient() -> Plan:
    """One worker is stopped for longer than the others want to wait."""
    stops = [Fault("sigstop", at, 3.5, "worker/1") for at in (2.0, 6.5)]
    return evolve(_PLAIN, faults=tuple(stops), ttl=6, wait=1.0, calm=11.0, barriers=_long(14))


def forsaken() -> Plan:
    """A parameter server, which only waits, loses its lease."""
    tasks = (*_WORKERS, TaskPlan("ps/0"))  # who leads would try again to, and so learn of it
    return evolve(
        _PLAIN,
        replicas={"ps": 1, "worker": 2},
        tasks=tasks,
        faults=(Fault("revoke", 1.0, 0.0, "ps/0", cue=Cue("ps/0", "wait_job")),),
        calm=9.0,
        stagger=1.0,
        checkpoint=60.0,
        barriers=_long(40),
    )


def _long(generations: int) -> tuple[BarrierPlan, ...]:
    return (BarrierPlan("epoch", ("worker",), generations),)


PLANS: Mapping[str, Callable[[], Plan]] = {
    "plain": plain,
    "fleeting": fleeting,
    "blink": blink,
    "whisper": whisper,
    "forgetful": forgetful,
    "asleep": asleep,
    "deposed": deposed,
    "torn": torn,
    "last word": last_word,
    "usurped": usurped,
    "returned": returned,
    "late decree": late_decree,
    "impatient": impatient,
    "forsaken": forsaken,
}


def directed(name: str, number: int, flaw: str = "") -> Plan:
    """The plan of that name, as round `number`."""
    return evolve(PLANS[name](), theme=name, seed=0, round=number, flaw=flaw)
