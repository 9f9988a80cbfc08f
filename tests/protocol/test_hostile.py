"""A hundred thousand hostile values, the same ones in each run: each is read, or refused by name, and soon.

The values are what psbarrier writes, with bytes or fields of it changed, and JSON of any other shape. What is accepted is
also used as psbarrier uses it: written again, compared, shown.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protocol.test_records import KEY, UNPACK, packed
from psbarrier.errors import InvalidArgumentError, MalformedValueError
from psbarrier.policy import Policy
from psbarrier.protocol.barrier_records import Arrival, BarrierRecord, Broken, Definition
from psbarrier.protocol.codec import LARGE, SMALL
from psbarrier.protocol.handover import Handover
from psbarrier.protocol.keys import Attempt, JobKeys
from psbarrier.protocol.records import (
    Config,
    Current,
    Departure,
    Gone,
    Leader,
    Loss,
    Registration,
    Seal,
    Shared,
)
from psbarrier.protocol.standing import Standing
from psbarrier.spec import ClusterSpec, MemberSpec, Replicas, Task
from psbarrier.state import JobState
from psbarrier.times import clock_time

COUNT = 100_000
SEED = 20_240_229

TASK, LATER = Task("worker", 3), Task("worker", 4)
CONFIG = Config(Replicas.of("ps=2,worker=4:9"), Policy(success=("worker",), loss_grace={"ps": 3.0}, max_restarts=2))
WRITTEN: dict[str, Any] = {
    "config": CONFIG,
    "registration": Registration("h:1", "abc", "host", 7, 15, {"gpu": [1, 2.5]}, 8, 1.7e9),
    "leader": Leader("worker/3", "abc"),
    "seal": Seal(2, 900, "0" * 64, frozenset({TASK, Task("ps", 0)})),
    "gone": Gone({TASK: Loss("abc", 1.7e9, "lost")}, frozenset({Task("ps", 0)}), (Task("ps", 1),), 1),
    "departure": Departure("abc", "crashed", "it crashed", 137, 1.7e9),
    "shared": Shared({"path": ["/a", None, True]}, "worker/3", "w"),
    "current": Current("r17"),
    "barrier": BarrierRecord(
        Attempt(7, 1, 2), Broken("ps/0", "timeout", {"ps/1": "lost"}), Attempt(6, 0, 2), 3, frozenset({TASK})
    ),
    "definition": Definition(("ps", "worker"), 6),
    "arrival": Arrival("abc", 3, 1.7e9),
    "state": JobState("failed", "worker/3", "it crashed", 137, 1.7e9),
    "spec": ClusterSpec("ctr", "r17", 2, (MemberSpec(TASK, "h:1", "abc", {"gpu": 1}), MemberSpec(LATER, "h:2"))),
}
HANDOVER = Handover(
    Standing(JobKeys("/psbarrier", "ctr").run("r17"), "ctr", "r17", TASK, "abc", "h:1", 15, 77, 88, CONFIG, 5, 78, 1),
    "/psbarrier",
    99,
)

# Values that have broken parsers before, as JSON.
NASTY = [
    *("NaN", "-Infinity", "1e999", "-1e999", "1e308", "-0.0", "1.0", "9223372036854775808", "-9223372036854775809"),
    *("true", "false", "null", "{}", "[]", "[[]]", '""', '"0"', '"\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"-"'),
    *('"0-999999,0-999999"', '"9999999999"', '"a/0"', '"worker/03"', '"../.."', '"é/1"', '"h:0"', '"[::1]:5"', '"１"'),
    *('"1_0"', '"0x10"', '{"a":{"a":{}}}', '[["worker/0","h:1","i",[["a",1]]]]', '{"worker":1e999}'),
]
NASTY += ["9" * 400, "9" * 5000, "[" * 500 + "]" * 500, '{"a":' * 300 + "1" + "}" * 300, '"' + "x" * 5000 + '"']


def hostile(random_: random.Random, value: bytes) -> bytes:
    """One hostile value, made of a good one or of nothing."""
    kind = random_.random()
    if kind < 0.15:
        return compressed(random_, mutated(random_, value))
    if kind < 0.4:
        return mutated(random_, value)
    if kind < 0.9:
        return replaced(random_, value)
    if kind < 0.95:
        return random_.choice(NASTY).encode()
    return b'{"v":1,' + random_.randbytes(random_.randrange(40)) + b"}"


def mutated(random_: random.Random, value: bytes) -> bytes:
    """Some bytes changed, cut out, doubled or added."""
    data = bytearray(value)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(5):
            case 0:
                data[at : at + 1] = bytes([random_.randrange(256)])
            case 1:
                del data[at : at + random_.randint(1, 9)]
            case 2:
                data[at:at] = random_.choice(NASTY)[:200].encode()
            case 3:
                data[at:at] = data[at : at + random_.randint(1, 40)]
            case _:
                data[at:at] = random_.choice((b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b'"', b",", b"{", b"]", b"\\"))
    return bytes(data)


def replaced(random_: random.Random, value: bytes) -> bytes:
    """Fields, at any depth, replaced, doubled, renamed or gone; what stands there then is often of the wrong kind."""
    parts = json.loads(value)
    places: list[tuple[Any, Any]] = []

    def collect(where: Any) -> None:
        for name in list(where) if isinstance(where, dict) else range(len(where)):
            places.append((where, name))
            if isinstance(where[name], dict | list):
                collect(where[name])

    collect(parts)
    marks = {}
    for number in range(random_.randint(1, 3)):
        where, name = random_.choice(places)
        if random_.random() < 0.1 and isinstance(where, dict):
            where.pop(name, None)
        elif random_.random() < 0.1 and isinstance(where, dict):
            where[random_.choice(("", "v", "missing", "\ud800", "x" * 300))] = 1
        else:
            marks[f"mark{number}"] = random_.choice(NASTY)
            where[name] = f"mark{number}"
    text = json.dumps(parts)
    for mark, nasty in marks.items():
        text = text.replace(f'"{mark}"', nasty)
    if random_.random() < 0.05:  # the same name twice
        text = text[:-1] + ', "v": 1, ' + text[1:]
    return text.encode(random_.choice(("utf-8",) * 9 + ("utf-16",)))


def compressed(random_: random.Random, value: bytes) -> bytes:
    data = b"z" + zlib.compress(value, 1)
    return data if random_.random() < 0.7 else mutated(random_, data)


def use(value: Any) -> None:
    """What psbarrier does with what it has read; none of it may fail."""
    str(value).encode("ascii", "backslashreplace")
    match value:
        case Config():
            value.as_dict()
            value.pack()
            value.policy.grace("worker")
        case Registration():
            value.holder.encode()
            value.pack()
        case JobState() | Departure():
            clock_time(value.since)
            value.reason.encode()
            assert value.reason.isprintable()
        case Gone():
            value.pack()
            [loss.why.encode() + clock_time(loss.since).encode() for loss in value.lost.values()]
        case ClusterSpec():
            str(value.as_dict()).encode()
            packed("spec", value)
        case BarrierRecord() | Shared() | Seal():
            value.pack()


def check(error: MalformedValueError) -> None:
    """It names the key, and can be printed."""
    assert error.key == KEY
    assert KEY in str(error)
    assert len(str(error)) < 700
    str(error).encode()


def values() -> Iterator[tuple[str, bytes]]:
    random_ = random.Random(SEED)
    good = {kind: packed(kind, value) for kind, value in WRITTEN.items()}
    kinds = sorted(good)
    for number in range(COUNT):
        kind = kinds[number % len(kinds)]
        yield kind, hostile(random_, good[kind])


def test_a_hundred_thousand_hostile_values_are_read_or_refused_by_name() -> None:
    """Whatever stands in etcd, no reader ends in any other way; and both ends are met often enough to mean something."""
    read = refused = 0
    for kind, value in values():
        try:
            use(UNPACK[kind](KEY, value))
            read += 1
        except MalformedValueError as error:
            check(error)
            refused += 1
        except Exception as error:
            raise AssertionError(f"{kind} {base64.b64encode(value)!r} ended in {error!r}") from error
    assert read > COUNT / 20
    assert refused > COUNT / 3


def test_a_hostile_handover_is_an_invalid_argument() -> None:
    """The variable may hold anything, and half a byte of an old locale, too."""
    random_ = random.Random(SEED)
    good = HANDOVER.pack().encode()
    assert Handover.unpack(good.decode()) == HANDOVER
    for _ in range(5000):
        with contextlib.suppress(InvalidArgumentError):
            Handover.unpack(hostile(random_, good).decode(errors="surrogateescape"))


BOMBS: dict[str, Callable[[], bytes]] = {
    "compressed text": lambda: b"z" + zlib.compress(b'{"v":1,"run":"' + b"a" * (60 * 1024 * 1024) + b'"}', 1),
    "compressed lists": lambda: b"z" + zlib.compress(b'{"v":1,"run":[' + b"[]," * (20 * 1024 * 1024) + b"0]}", 1),
    "lists within lists": lambda: b'{"v":1,"run":' + b"[" * 1_400_000 + b"]" * 10 + b"}",
    "many lists": lambda: b'{"v":1,"run":[' + b"[]," * 450_000 + b"0]}",
    "a long number": lambda: b'{"v":1,"run":' + b"9" * 1_400_000 + b"}",
}


@pytest.mark.parametrize("kind", ["current", "spec"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_fills_the_memory(bomb: str, kind: str) -> None:
    """A request of etcd's 1.5 MiB never takes more than a few times what the largest value of its kind may have."""
    value = BOMBS[bomb]()
    tracemalloc.start()
    try:
        with pytest.raises(MalformedValueError):
            UNPACK[kind](KEY, value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (4 * LARGE if kind == "spec" else 4 * 1024 * 1024 + 4 * SMALL)


def test_control_characters_do_not_reach_a_terminal() -> None:
    """A reason that clears the screen, or forges a line of the log, is shown as one line."""
    state = JobState("failed", "worker/3", "a\x1b[2Jb\nc\x9b31m", 1, 1.7e9)
    read = UNPACK["state"](KEY, packed("state", state))
    assert read.reason == "a [2Jb c 31m"
