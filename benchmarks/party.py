"""A process of a group, seen from inside; group.py is the other side.

It imports little, for it is a part of every contestant.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping


def say(word: str, *values: object) -> None:
    """Tell the group's starter."""
    print(word, *values, flush=True)


def hear() -> list[str]:
    """What the starter says next; nothing when it is over."""
    return sys.stdin.readline().split()


def perform(actions: Mapping[str, Callable[[], object]]) -> None:
    """Say "ready"; do what the starter asks for, when it asks for it, and tell when it began and ended; until it is over."""
    say("ready")
    while request := hear():
        action, moment = actions[request[0]], float(request[1])
        time.sleep(max(0.0, moment - time.monotonic()))
        began = time.monotonic()
        action()
        ended = time.monotonic()
        say("done", began, ended)
