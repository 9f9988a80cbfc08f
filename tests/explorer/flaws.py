"""Flaws: the real code with one mistake in it.

A flaw is a piece of source text and what stands there instead. The module is compiled with the mistake, and every
function whose code differs then runs that code, wherever it was imported to; afterwards all is as before.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from attrs import frozen


@frozen
class Flaw:
    """Mistakes: in which module, the right text, which stands there once, and the wrong one.

    It is found in schedules of `theme`, by one of the promises whose names are given.
    """

    name: str
    theme: str
    promises: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        return self.name


@contextmanager
def planted(flaw: Flaw) -> Iterator[None]:
    """The code has this flaw inside the block."""
    modules = [name for name, _, _ in flaw.changes]
    assert len(set(modules)) == len(modules), f"one change would undo another: make {flaw.name!r} one change a module"
    with ExitStack() as stack:
        for change in flaw.changes:
            stack.enter_context(_changed(flaw, *change))
        yield


@contextmanager
def _changed(flaw: Flaw, name: str, right: str, wrong: str) -> Iterator[None]:
    module = importlib.import_module(name)
    source = inspect.getsource(module)
    count = source.count(right)
    assert count == 1, f"{right!r} stands {count} times in {name}: say anew what the flaw {flaw.name!r} changes"
    wrongs = _functions(compile(source.replace(right, wrong), str(module.__file__), "exec", dont_inherit=True))
    rights = {}
    for function in _living(module):
        code = wrongs.get(function.__code__.co_qualname)
        if code is not None and _differs(code, function.__code__):
            rights[function] = function.__code__
            function.__code__ = code
    assert rights, f"the flaw {flaw.name!r} changes no function of {name}"
    try:
        yield
    finally:
        for function, code in rights.items():
            function.__code__ = code


def _functions(code: types.CodeType) -> dict[str, types.CodeType]:
    """Every function below `code` that is not inside another one, by its qualified name."""
    found = {}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_flags & inspect.CO_OPTIMIZED:
                found[constant.co_qualname] = constant
            else:
                found |= _functions(constant)  # the body of a class
    return found


def _differs(one: types.CodeType, other: types.CodeType) -> bool:
    """Whether two codes do different things, wherever their lines stand."""
    if (one.co_code, one.co_names, len(one.co_consts)) != (other.co_code, other.co_names, len(other.co_consts)):
        return True
    return any(
        _differs(mine, theirs)
        if isinstance(mine, types.CodeType) and isinstance(theirs, types.CodeType)
        else mine != theirs
        for mine, theirs in zip(one.co_consts, other.co_consts, strict=True)
    )


def _living(module: types.ModuleType) -> Iterator[types.FunctionType]:
    """The functions that were made by `module`, methods and properties included."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members: list[Any] = list(vars(value).values()) if inspect.isclass(value) else [value]
        for member in members:
            inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if isinstance(inner, types.FunctionType):
                yield inspect.unwrap(inner)
