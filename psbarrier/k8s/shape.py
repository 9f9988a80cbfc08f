"""Shapes: what each field of a job's description may hold; checked, completed, and told to editors as JSON Schema.

One table says all: a field's shape reads what a file or a Python caller gives, refuses it with the path to it, and
describes itself. `take` is idempotent, so a value that was read once may be given again.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from attrs import frozen

from psbarrier.arguments import check_json
from psbarrier.errors import InvalidArgumentError

Path: TypeAlias = tuple[str | int, ...]


class MisfitError(InvalidArgumentError):
    """A field cannot hold what it was given: `path` leads to it, `wrong` says why."""

    path: Path
    wrong: str

    @classmethod
    def at(cls, path: Path, wrong: str) -> MisfitError:
        """The error for what stands at `path`."""
        return cls(f"{dotted(path)}{wrong}", path=path, wrong=wrong)

    def below(self, path: Path) -> MisfitError:
        """The same, seen from further up."""
        return MisfitError.at((*path, *self.path), self.wrong)


def dotted(path: Path) -> str:
    """`roles.worker.env[2] ` for a path; nothing for an empty one."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"{text.removeprefix('.')} " if text else ""


@functools.cache
def camel(name: str) -> str:
    """A field's name in a file: `max_restarts` is `maxRestarts` there."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


class Shape(Protocol):
    """What a field may hold."""

    def take(self, value: Any, path: Path = ()) -> Any:
        """`value` as the field holds it; raises MisfitError."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema, as far as that can say it."""


def written(value: Any) -> Any:
    """A number as text, as it was written; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return getattr(value, "text", None) or str(value)


def shown(value: Any) -> str:
    """A short picture of a value that does not fit."""
    return "nothing" if value is None else f"{value!r:.60}"


@frozen
class Text:
    """One line of text. `pattern` must match all of it; `hint` says what would."""

    pattern: str | None = None
    hint: str = "write a text"
    longest: int = 4096
    numbers: bool = False
    check: Callable[[str], object] | None = None

    def take(self, value: Any, path: Path = ()) -> str:
        text = written(value) if self.numbers else value
        if isinstance(text, bool):
            raise MisfitError.at(path, f"is {text}: put it in quotes if it is meant as a text")
        if not isinstance(text, str):
            raise MisfitError.at(path, f"is {shown(value)}: {self.hint}")
        if len(text) > self.longest or "\0" in text or (self.pattern and not re.fullmatch(self.pattern, text)):
            raise MisfitError.at(path, f"is {shown(value)}: {self.hint}")
        if self.check is not None:
            try:
                self.check(text)
            except InvalidArgumentError as error:
                raise MisfitError.at(path, f"is no use: {error}") from error
        return text

    def schema(self) -> dict[str, Any]:
        kind: dict[str, Any] = {"type": ["string", "number"] if self.numbers else "string"}
        return kind | ({"pattern": f"^({self.pattern})$"} if self.pattern and not self.numbers else {})


@frozen
class Whole:
    """A whole number."""

    least: int = 0
    most: int = 2**31 - 1
    hint: str = ""

    def take(self, value: Any, path: Path = ()) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            hint = self.hint or f"a whole number from {self.least} to {self.most}"
            raise MisfitError.at(path, f"is {shown(value)}: write {hint}")
        return int(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@frozen
class Seconds:
    """A number of seconds."""

    least: float = 0
    most: float = 1e9

    def take(self, value: Any, path: Path = ()) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise MisfitError.at(path, f"is {shown(value)}: write a number of seconds")
        if not self.least <= value <= self.most:
            raise MisfitError.at(
                path, f"is {shown(value)}: write a number of seconds from {self.least:g} to {self.most:g}"
            )
        return float(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@frozen
class YesNo:
    """true or false."""

    def take(self, value: Any, path: Path = ()) -> bool:
        if not isinstance(value, bool):
            raise MisfitError.at(path, f"is {shown(value)}: write true or false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@frozen
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def take(self, value: Any, path: Path = ()) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise MisfitError.at(path, f"is {shown(value)}: write {' or '.join(self.words)}{near(value, self.words)}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@frozen
class Items:
    """A list of things of one shape, held as a tuple."""

    of: Shape
    least: int = 0
    hint: str = "write a list"

    def take(self, value: Any, path: Path = ()) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) < self.least:
            raise MisfitError.at(path, f"is {shown(value)}: {self.hint}")
        return tuple(self.of.take(each, (*path, index)) for index, each in enumerate(value))

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.of.schema(), "minItems": self.least}


@frozen
class Table:
    """A mapping with keys that a caller chooses."""

    key: Shape
    of: Shape
    least: int = 0

    def take(self, value: Any, path: Path = ()) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) < self.least:
            raise MisfitError.at(path, f"is {shown(value)}: write a mapping, one line for each name")
        for name in value:
            try:
                self.key.take(name)
            except MisfitError as error:
                raise MisfitError.at((*path, str(name)), f"is not a name that fits here: it {error.wrong}") from error
        return {name: self.of.take(each, (*path, name)) for name, each in value.items()}

    def schema(self) -> dict[str, Any]:
        found = {"type": "object", "additionalProperties": self.of.schema(), "minProperties": self.least}
        pattern = self.key.schema().get("pattern")
        return found | ({"propertyNames": {"pattern": pattern}} if pattern else {})


@frozen
class Native:
    """What Kubernetes reads and we do not: passed on as it is, if JSON can say it."""

    kind: type
    what: str

    def take(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, self.kind):
            raise MisfitError.at(path, f"is {shown(value)}: write it as {self.what}")
        try:
            check_json(value)
        except ValueError as error:
            raise MisfitError.at(path, f"cannot be written as JSON: {error}") from error
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "object" if self.kind is dict else "array"}


@frozen
class Either:
    """The first shape for a value that `first_if` fits, else the second."""

    first_if: Callable[[Any], bool]
    first: Shape
    second: Shape

    def take(self, value: Any, path: Path = ()) -> Any:
        return (self.first if self.first_if(value) else self.second).take(value, path)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.first.schema(), self.second.schema()]}


def near(name: object, known: Iterable[str]) -> str:
    """`; did you mean 'replicas'?` when something known is like it."""
    lower = {each.lower(): each for each in known}
    plain = str(name).replace("_", "").replace("-", "").lower()
    found = difflib.get_close_matches(plain, lower, 1, cutoff=0.5)
    return f"; did you mean {lower[found[0]]!r}?" if found else ""
