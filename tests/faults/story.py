"""Story: a history made by hand, for the tests of the checker: it begins as a sound one, and each test spoils one thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import evolve

from faults.endings_check import digest
from faults.history import Beat, Call, Change, History, Process, Revision, Standing, Write
from faults.plan import BarrierPlan, Plan, TaskPlan
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord
from psbarrier.protocol.keys import Attempt
from psbarrier.protocol.records import Gone, Leader, Registration, Seal, pack_spec, pack_state
from psbarrier.spec import ClusterSpec, MemberSpec, Task
from psbarrier.state import JobState

ROOT = "/psbarrier/job/runs/run/"
RUN_LEASE = 9
PLAN = Plan(
    seed=0,
    round=0,
    theme="story",
    barriers=(BarrierPlan("epoch", ("worker",), 1),),
    tasks=(TaskPlan("worker/0"), TaskPlan("worker/1")),
    max_restarts=1,
)


class Story:
    """Two workers join, are sealed, meet once at a barrier, and finish. Each revision takes a second."""

    def __init__(self) -> None:
        self.revisions: list[Revision] = []
        self.processes: list[Process] = []
        self._keys: dict[str, Change] = {}
        self.now = 100.0

    # -- what etcd saw

    def apply(self, puts: dict[str, tuple[bytes, int]], deletes: Iterable[str] = ()) -> int:
        """One revision: values and leases by key, below the run's root unless they begin with a slash; its number."""
        number, self.now = len(self.revisions) + 2, self.now + 1
        changes = []
        for name, (value, lease) in puts.items():
            key = name if name.startswith("/") else ROOT + name
            old = self._keys.get(key)
            create, version = (old.create, old.version + 1) if old else (number, 1)
            self._keys[key] = Change(key, value, create, version, lease)
            changes.append(self._keys[key])
        for name in deletes:
            key = name if name.startswith("/") else ROOT + name
            self._keys.pop(key, None)
            changes.append(Change(key, deleted=True))
        self.revisions.append(Revision(number, self.now, tuple(changes)))
        return number

    def registration(self, index: int, incarnation: str, finished: float = 0.0) -> tuple[bytes, int]:
        lease = RUN_LEASE if finished else index + 1
        return Registration(f"h:{index + 1}", incarnation, "h", 1, 2, finished=finished).pack(), lease

    def join(self, index: int, incarnation: str) -> int:
        return self.apply({f"members/worker/{index}": self.registration(index, incarnation)})

    def lose(self, index: int) -> int:
        """The lease of a worker ends."""
        return self.apply({}, [f"members/worker/{index}"])

    def lead(self, index: int, incarnation: str) -> int:
        return self.apply({"control/leader": (Leader(f"worker/{index}", incarnation).pack(), index + 1)})

    def seal(self, epoch: int, *incarnations: str) -> int:
        body = pack_spec(self.spec(epoch, *incarnations))
        seal = Seal.of(epoch, body).pack()
        return self.apply({f"cluster/{epoch:010}": (body, RUN_LEASE), "control/cluster": (seal, RUN_LEASE)})

    def spec(self, epoch: int, *incarnations: str) -> ClusterSpec:
        members = (MemberSpec(Task("worker", i), f"h:{i + 1}", name, {}) for i, name in enumerate(incarnations))
        return ClusterSpec("job", "run", epoch, tuple(members))

    def arrive(self, index: int, incarnation: str, call: int = 1, *, release: bool = False) -> int:
        at = Attempt()
        puts = {f"arrivals/epoch/{at}/worker/{index}": (Arrival(incarnation, call).pack(), RUN_LEASE)}
        if release:
            puts["control/barriers/epoch"] = (BarrierRecord(Attempt(1), None, at).pack(), RUN_LEASE)
        return self.apply(puts)

    def finish(self, index: int, incarnation: str, *, state: bool = False) -> int:
        puts = {
            f"members/worker/{index}": self.registration(index, incarnation, finished=1.0),
            "ticks/finish/worker": (b"", RUN_LEASE),
        }
        if state:
            puts["control/state"] = pack_state(JobState("succeeded", since=1.0)), RUN_LEASE
        return self.apply(puts)

    # -- what the processes saw

    def process(self, index: int, incarnation: str, token: int, *calls: Call, **more: Any) -> Process:
        task = f"worker/{index}"
        standing = Standing(task, incarnation, token, "run", index + 1)
        fields = {"slot": task, "standing": standing, "calls": calls, "last": self.now, **more}
        process = Process(incarnation, **fields)
        self.processes.append(process)
        return process

    def wait(self, begin: float, result: int, **more: Any) -> Call:
        fields = {"end": begin + 1, "limit": 15.0, "args": {"barrier": "epoch", "generation": 0, "number": 1}}
        return Call("wait", begin, **{**fields, "result": result, **more})

    def cluster(self, epoch: int, *incarnations: str) -> Call:
        result = {"epoch": epoch, "digest": digest(self.spec(epoch, *incarnations))}
        return Call("cluster", self.now, self.now + 1, 15.0, result=result)

    def write(self, revision: int, index: int, token: int, *keys: str) -> Write:
        """What a process is told of a write of its own."""
        written = tuple(ROOT + key for key in keys)
        return Write(revision, written, f"{ROOT}members/worker/{index}", token, f"{ROOT}config", 2)

    def beat(self, index: int, sent: float, ttl: int = 2) -> Beat:
        return Beat(index + 1, sent, ttl, sent)

    def spoil(self, index: int, **changes: Any) -> None:
        """Change what a process saw."""
        self.processes[index] = evolve(self.processes[index], **changes)

    def history(self, **more: Any) -> History:
        fields = {"plan": PLAN, "processes": tuple(self.processes), "revisions": tuple(self.revisions)}
        return History(**{**fields, "calm": 101.0, **more})

    # -- the sound one

    def begin(self) -> None:
        """Until both have passed the gate."""
        self.apply({"config": (b"{}", RUN_LEASE)})
        self.join(0, "a")
        self.lead(0, "a")
        self.join(1, "b")
        self.seal(1, "a", "b")

    def meet(self) -> None:
        self.arrive(0, "a")
        self.arrive(1, "b", release=True)

    def end(self) -> None:
        self.finish(0, "a")
        self.finish(1, "b", state=True)

    def gone(self, lost: dict[str, str]) -> int:
        from psbarrier.protocol.records import Loss

        losses = {Task.parse(task): Loss(incarnation, 1.0, "lost") for task, incarnation in lost.items()}
        return self.apply({"control/gone": (Gone(losses).pack(), RUN_LEASE)})


def sound() -> Story:
    """A history in which every promise is kept."""
    story = Story()
    story.begin()
    gate = story.cluster(1, "a", "b")
    met = story.now + 1
    story.meet()
    story.end()
    story.process(0, "a", 3, gate, story.wait(met, 0, end=met + 1.5), Call("finish", story.now, story.now, 60.0))
    story.process(1, "b", 5, gate, story.wait(met + 0.5, 1), Call("finish", story.now, story.now, 60.0))
    return story
