"""Flaws: the real code with one mistake in it.

A flaw is a piece of source text and what stands there instead. The module is compiled with the mistake, and every
function whose code differs then runs that code, wherever it was imported to; afterwards all is as before.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen


@frozen
class Flaw:
    """Mistakes in one module: pairs of the right text, which stands there once, and the wrong one."""

    name: str
    module: str
    changes: tuple[tuple[str, str], ...]
    caught_as: tuple[str, ...]
    """The names of the promises that show it."""

    def __str__(self) -> str:
        return self.name


@contextmanager
def planted(flaw: Flaw) -> Iterator[None]:
    """The code has this flaw inside the block."""
    module = importlib.import_module(flaw.module)
    source = inspect.getsource(module)
    for right, wrong in flaw.changes:
        count = source.count(right)
        assert count == 1, (
            f"{right!r} stands {count} times in {flaw.module}: say anew what the flaw {flaw.name!r} changes"
        )
        source = source.replace(right, wrong)
    wrongs = _functions(compile(source, str(module.__file__), "exec", dont_inherit=True))
    rights = {}
    for function in _living(module):
        code = wrongs.get(function.__code__.co_qualname)
        if code is not None and _differs(code, function.__code__):
            rights[function] = function.__code__
            function.__code__ = code
    assert rights, f"the flaw {flaw.name!r} changes no function"
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
                yield inner
