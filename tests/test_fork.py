"""A forked child is told at once that it holds nothing; and whatever it does, its parent's task goes on undisturbed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys

import pytest
from helpers import eventually, python
from jobs import PATIENCE, Place

from psbarrier.embedded import EtcdServer
from psbarrier.store.base import Range

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# The parent holds worker/0 of a job of one. What it says on stderr is what went wrong: its streams are never reopened.
PARENT = """
import gc, logging, multiprocessing, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python itself warns of a fork among threads
logging.basicConfig(level=logging.INFO)
import psbarrier
from psbarrier import ForkError

def join(endpoint, job):
    return psbarrier.join(endpoint, job, "worker", 0, replicas={"worker": 1}, address="h:1", run="run", ttl=6)

def wait_for(child):
    until = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            sys.exit("the child hangs")
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])

def goes_on(me):
    sure = me._session.certain_until
    until = time.monotonic() + 20
    while me._session.certain_until <= sure + 1:  # several keep-alives that were sent since
        assert time.monotonic() < until, "no keep-alive is confirmed"
        time.sleep(0.05)
    assert me.state is psbarrier.MemberState.CONNECTED
    assert not me.job_state.over
    me.share("still", "here")
    assert me.get("still") == "here"
    assert me.barrier("b").wait(20) == 0
"""


def run(code: str, *arguments: str, **variables: str) -> None:
    """Run a parent to its end, which says nothing if all is well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PSBARRIER_")}
    done = subprocess.run(
        [sys.executable, "-c", PARENT + code, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        env={**environment, **variables},
    )
    # What gRPC itself says of a fork is its own affair.
    said = [line for line in done.stderr.splitlines() if "fork_posix" not in line]
    assert (done.returncode, done.stdout, said) == (0, "", []), done.stderr


USES = """
from psbarrier.testing import MemoryStore
store = MemoryStore() if sys.argv[1] == "memory" else psbarrier.connect(sys.argv[1])
member = join(store, sys.argv[2])
spec = member.cluster(20)
barrier = member.barrier("b")
changes = member.changes()
arguments = {"barrier": ("c",), "share": ("k", 1), "get": ("k",), "fail": ("x",), "crash": ("x",),
             "on_state": (print,)}
harmless = {"task", "job", "run", "address", "incarnation", "token", "lease", "restarts", "close", "abandon",
            "name", "roles", "on_loss", "parties"}

def use(thing, name):
    found = getattr(thing, name)
    if callable(found):
        found(*arguments.get(name, ()))

def told(call):
    try:
        call()
    except ForkError as error:
        assert error.pid == os.getppid() and "spawn" in str(error), error
        return True
    return False

def child():
    for thing in (member, barrier):
        names = [name for name in dir(type(thing)) if not name.startswith("_")] + list(vars(thing))
        for name in (name for name in names if not name.startswith("_")):
            assert told(lambda: use(thing, name)) == (name not in harmless), name
        repr(thing)
    assert told(member.__enter__) and told(lambda: next(changes))
    verbs = [lambda: store.read(until=1e9), lambda: store.txn(None, until=1e9), lambda: store.grant(5, until=1e9),
             lambda: store.revoke(1, until=1e9), lambda: store.keep(1, interval=1, on_beat=print),
             lambda: store.watch("/a/", None, until=1e9)]
    assert all(told(verb) for verb in verbs)
    assert told(lambda: join(store, "other"))
    repr(store)
    store.close()

locked = [member._session.condition, barrier._one_at_a_time, member._session._runner._condition,
          psbarrier.runner.Runner._all_lock]
if sys.argv[1] == "memory":
    locked.append(store._server.lock)
else:
    from psbarrier.store import compat
    locked += [store._channels._changed, store._watching._condition, store._keep_alives._condition, compat._lock]
held, go = threading.Event(), threading.Event()

def hold():
    for lock in locked:
        lock.acquire()
    held.set()
    go.wait()
    for lock in reversed(locked):
        lock.release()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
pid = os.fork()
if pid == 0:
    try:
        child()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(7)
code = wait_for(pid)
go.set()
holder.join()
assert code == 7
if sys.argv[1] != "memory":
    goes_on(member)
member.close()
store.close()
"""


@pytest.mark.parametrize("over", ["memory", "etcd"])
def test_whatever_a_forked_child_uses_is_refused_before_it_takes_a_lock(over: str, real: Place) -> None:
    """Every public name of Member and Barrier, and every verb of a store, although another thread of the parent held
    every lock of ours when it forked. Who one is may be asked, and giving up does nothing."""
    assert real.etcd is not None
    run(USES, "memory" if over == "memory" else real.etcd.endpoint, real.job)


ENDS = {
    "at once": "os._exit(3)",
    "as an interpreter does": "sys.exit(3)",
    "after a collection": "del me, member; gc.collect(); sys.exit(3)",
    "after closing all": "me.close(); me._session.store.close(); sys.exit(3)",
    "by an exception out of the block": "block()",
    "out of the block": "block(0); sys.exit(3)",
}

FORK = """
def block(crash=True):
    with_block = type(me).__exit__
    try:
        raise SystemExit(3)
    except SystemExit as error:
        with_block(me, *((SystemExit, error, error.__traceback__) if crash else (None, None, None)))
        if crash:
            raise

with join(sys.argv[1], sys.argv[2]) as me:
    me.cluster(20)
    member = me
    pid = os.fork()
    if pid == 0:
        {end}
    assert wait_for(pid) == 3
    goes_on(me)
assert me.job_state.phase in ("running", "succeeded")
"""


CASES: list[tuple[str, dict[str, str]]] = [(end, {}) for end in ENDS]
# What some libraries set for their own sake; gRPC then meddles with forks.
CASES += [("as an interpreter does", {"GRPC_ENABLE_FORK_SUPPORT": value}) for value in ("0", "1")]


@pytest.mark.parametrize(("end", "variables"), CASES)
def test_however_a_forked_child_ends_the_task_goes_on(end: str, variables: dict[str, str], real: Place) -> None:
    """No lease is revoked, no task finished, no crash reported, and no connection of the parent's is lost."""
    assert real.etcd is not None
    run(FORK.replace("{end}", ENDS[end]), real.etcd.endpoint, real.job, **variables)
    assert {name for name in real.names() if "departures" in name} == set()


MULTIPROCESSING = """
def work(queue):
    told = []
    for use in (lambda: me.state, lambda: me.barrier("b"), lambda: me.wait_job(5)):
        try:
            use()
        except ForkError as error:
            told.append(type(error).__name__)
    queue.put((str(me.task), told))

with join(sys.argv[1], sys.argv[2]) as me:
    me.cluster(20)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=work, args=(queue,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        assert queue.get() == ("worker/0", ["ForkError"] * 3)
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    goes_on(me)
"""


def test_workers_of_multiprocessing_are_told(real: Place) -> None:
    """Each knows whose it is, and disturbs nobody."""
    assert real.etcd is not None
    run(MULTIPROCESSING, real.etcd.endpoint, real.job)


LOADER = """
import torch.utils.data

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, number):
        assert me.task.index == 0
        try:
            me.share("number", number)
        except ForkError:
            return number
        raise AssertionError("it was let in")

with join(sys.argv[1], sys.argv[2]) as me:
    me.cluster(20)
    for epoch in range(2):
        loader = torch.utils.data.DataLoader(Numbers(), num_workers=2, multiprocessing_context="fork", timeout=30)
        assert sorted(int(number) for batch in loader for number in batch) == list(range(8))
        assert me.barrier("epoch").wait(20) == 0
    goes_on(me)
"""


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.slow
def test_the_workers_of_a_data_loader_are_told(real: Place) -> None:
    """A real one of torch, with the start method that is its default on Linux."""
    assert real.etcd is not None
    run(LOADER, real.etcd.endpoint, real.job)


ANEW = """
used = sys.argv[3] == "used"
if used:
    psbarrier.connect(sys.argv[1]).close()
pid = os.fork()
if pid == 0:
    try:
        with join(sys.argv[1], sys.argv[2]) as me:
            me.cluster(20)
    except ForkError as error:
        assert "gRPC" in str(error) and "spawn" in str(error)
        os._exit(4)
    os._exit(0)
assert wait_for(pid) == (4 if used else 0)
"""


@pytest.mark.parametrize("before", ["unused", "used"])
def test_a_child_may_join_for_itself_unless_grpc_was_used_before(before: str, real: Place) -> None:
    """A server that forks its workers first is fine; where gRPC was used, the child is told, and does not hang."""
    assert real.etcd is not None
    run(ANEW, real.etcd.endpoint, real.job, before)
    assert any(name.endswith("control/state") for name in real.names()) == (before == "unused")


ORPHAN = """
me = join(sys.argv[1], sys.argv[2])
me.cluster(20)
pid = os.fork()
if pid == 0:
    signal.pause()
print(pid, flush=True)
signal.pause()
"""


def test_a_child_that_outlives_its_parent_keeps_nothing_alive(real: Place, etcd: EtcdServer) -> None:
    """It holds the parent's sockets, and no lease by that: the task is lost when its TTL is over."""
    with python(PARENT + ORPHAN, etcd.endpoint, real.job) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            key = f"/psbarrier/{real.job}/runs/run/members/worker/0"

            def held() -> bool:
                return real.store.read(Range(key), until=real.soon()).one(0) is not None

            assert held()
            parent.kill()
            assert eventually(lambda: not held())
        finally:
            os.kill(child, signal.SIGKILL)
