"""Fields: attrs classes whose fields have shapes, so that they can be read from a file and told to editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import field, frozen

from psbarrier.k8s.shape import MisfitError, Path, Shape, camel, near, shown


@frozen
class Part:
    """An object with fields of its own, an attrs class made by `part`. `short` is the field that a value alone means."""

    cls: type
    short: str | None = None

    def take(self, value: Any, path: Path = ()) -> Any:
        if isinstance(value, self.cls):
            return value
        if self.short is not None and not isinstance(value, Mapping):
            value = {camel(self.short): value}
        if not isinstance(value, Mapping):
            raise MisfitError.at(path, f"is {shown(value)}: write a mapping with the fields {', '.join(self.names())}")
        return self.read(value, path)

    def read(self, value: Mapping[str, Any], path: Path = ()) -> Any:
        known = {camel(each.name): each for each in attrs.fields(self.cls)}
        for name in value:
            if name not in known:
                hint = near(name, known) or f": there are {', '.join(known)}"
                raise MisfitError.at((*path, str(name)), f"is no field{hint}")
        for name, each in known.items():
            if each.default is attrs.NOTHING and name not in value:
                raise MisfitError.at(path, f"has no {name!r}, which is needed" if path else f"{name!r} is missing")
        taken = {known[name].name: shape_of(known[name]).take(each, (*path, name)) for name, each in value.items()}
        try:
            return self.cls(**taken)
        except MisfitError as error:
            raise error.below(path) from error

    def names(self) -> list[str]:
        return [camel(each.name) for each in attrs.fields(self.cls)]

    def schema(self) -> dict[str, Any]:
        fields = attrs.fields(self.cls)
        found: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                camel(each.name): {"description": each.metadata["doc"], **shape_of(each).schema()} for each in fields
            },
        }
        needed = [camel(each.name) for each in fields if each.default is attrs.NOTHING]
        found |= {"required": needed} if needed else {}
        if self.short is None:
            return found
        return {"anyOf": [shape_of(getattr(fields, self.short)).schema(), found]}


def part(shape: Shape, doc: str, **how: Any) -> Any:
    """A field of a `Described` class; `default` or `factory` as for `attrs.field`."""
    return field(metadata={"shape": shape, "doc": doc}, **how)


class Described:
    """What all such attrs classes do when they are made: take each field, and then look at them together."""

    def __attrs_post_init__(self) -> None:
        """Raises MisfitError. None means "not given" only where it is the default."""
        for each in attrs.fields(type(self)):  # type: ignore[arg-type]  # those that derive from this are attrs classes
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                object.__setattr__(self, each.name, shape_of(each).take(value, (camel(each.name),)))
        self.check()

    def check(self) -> None:
        """Raises MisfitError for fields that do not go together."""


def shape_of(each: Any) -> Shape:
    """The shape that `part` gave to an attrs field."""
    found: Shape = each.metadata["shape"]
    return found
