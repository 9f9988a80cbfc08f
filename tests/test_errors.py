"""Errors: one tree, one sentence each, and nothing lost on the way to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import threading
from typing import Any

import pytest

import psbarrier
from psbarrier import errors
from psbarrier.errors import PsBarrierError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PsBarrierError)]
DATA: dict[str, Any] = {
    "missing": {"worker/3": "never registered"},
    "holder": "process 7 on host",
    "by": "worker/1",
    "reason": "it crashed",
    "exit_code": 137,
    "task": "ps/0",
    "key": "/psbarrier/j/current",
    "reasons": {"etcd:2379": "refused"},
    "applied": None,
    "ours": {"replicas": {"ps": 1}},
    "theirs": ("ps", "worker"),
    "barrier": "epoch",
    "generation": 3,
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("through", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_errors_survive_pickling(kind: type[PsBarrierError], through: Any) -> None:
    """Text, attributes and type arrive in the parent of a worker process."""
    error = kind("it happened: do this", **DATA)
    again = through(error)
    assert type(again) is kind
    assert str(again) == str(error) == "it happened: do this"
    assert {name: getattr(again, name) for name in DATA} == DATA


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_stands_in_the_tree_with_its_builtin(kind: type[PsBarrierError]) -> None:
    """The docstring of the module is the map, so it must show every class, and what else it is."""
    assert errors.__doc__ is not None
    (line,) = re.findall(rf"{kind.__name__}\b(?: \((\w+)\))?", errors.__doc__.partition("\n\n")[2])
    builtin = {base.__name__ for base in kind.__mro__ if base.__module__ in ("builtins", "threading")}
    assert not line or line in builtin


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_exported(kind: type[PsBarrierError]) -> None:
    """Whoever catches one need not know where it lives."""
    assert getattr(psbarrier, kind.__name__) is kind
    assert kind.__name__ in psbarrier.__all__


def test_a_broken_barrier_is_what_threading_calls_one() -> None:
    """Code that is written for threading.Barrier catches it."""
    assert issubclass(errors.BarrierTimeoutError, threading.BrokenBarrierError)
    assert issubclass(errors.BarrierTimeoutError, TimeoutError)
    assert issubclass(errors.JobFailedError, errors.JobOverError)
