"""Quantities of resources, as Kubernetes writes them: 500m, 2, 1.5Gi, 1e3.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from attrs import frozen

from psbarrier.k8s.fields import Described, part
from psbarrier.k8s.shape import MisfitError, Path, Table, Text, near, shown

_FORM = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?"
_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_PLAIN = ("cpu", "memory", "ephemeral-storage")
_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

QUANTITY = Text(_FORM, "write a quantity such as 500m, 2 or 1.5Gi", numbers=True)


def amount(text: str) -> Fraction:
    """How much a quantity is.

    >>> amount("1.5Ki"), amount("500m")
    (Fraction(1536, 1), Fraction(1, 2))
    """
    found = re.fullmatch(_FORM, text)
    assert found is not None, text
    number, suffix = Fraction(found[1]), found[2] or ""
    if suffix in _BINARY:
        return Fraction(number * 1024 ** (_BINARY.index(suffix) + 1))
    power = _SUFFIXES[suffix] if suffix in _SUFFIXES else int(suffix[1:])
    factor = Fraction(10 ** abs(power))
    return number * factor if power >= 0 else number / factor


def is_extended(name: str) -> bool:
    """Whether a resource is a device or a huge page, of which nobody may get more than he asked for."""
    return "/" in name or name.startswith("hugepages-")


@frozen
class _Resource:
    """The name of a resource."""

    def take(self, value: object, path: Path = ()) -> str:
        """One of Kubernetes' own, or a device's with its domain."""
        text = str(value)
        known = text in _PLAIN or re.fullmatch(r"hugepages-[0-9]+[KMG]i", text)
        if known or (
            len(text) <= 253 and re.fullmatch(rf"{_DOMAIN}/[A-Za-z0-9]([A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?", text)
        ):
            return text
        hint = near(text, _PLAIN)
        raise MisfitError.at(
            path, f"is {shown(value)}: write {', '.join(_PLAIN)}, or a device such as nvidia.com/gpu{hint}"
        )

    def schema(self) -> dict[str, object]:
        """Any name."""
        return {"type": "string"}


_AMOUNTS = Table(_Resource(), QUANTITY)


@frozen
class Resources(Described):
    """What a container asks for, and the most that it gets. What is only limited is asked for as well, as in Kubernetes."""

    requests: Mapping[str, str] = part(_AMOUNTS, "What a node must have free, by resource.", factory=dict)
    limits: Mapping[str, str] = part(_AMOUNTS, "The most that a task gets, by resource.", factory=dict)

    def check(self) -> None:
        for name, text in self.requests.items():
            limit = self.limits.get(name)
            if limit is not None and amount(text) > amount(limit):
                raise MisfitError.at(("requests", name), f"is {text}, more than its limit {limit}")
            if limit is not None and is_extended(name) and amount(text) != amount(limit):
                raise MisfitError.at(
                    ("requests", name), f"is {text} and its limit {limit}: a device's must be the same"
                )
        for kind, table in (("requests", self.requests), ("limits", self.limits)):
            for name, text in table.items():
                if is_extended(name) and amount(text).denominator != 1:
                    raise MisfitError.at((kind, name), f"is {text}: devices come whole")
        both = {**self.limits, **self.requests}
        if any(name.startswith("hugepages-") for name in both) and not both.keys() & {"cpu", "memory"}:
            raise MisfitError.at((), "asks for huge pages: Kubernetes then wants cpu or memory too")

    @property
    def missing(self) -> tuple[str, ...]:
        """Of cpu and memory, what is neither asked for nor limited."""
        return tuple(name for name in ("cpu", "memory") if name not in self.requests and name not in self.limits)

    def manifest(self) -> dict[str, dict[str, str]]:
        """As a container has them: a device that is asked for is limited as well, as Kubernetes demands."""
        limits = {**self.limits, **{name: text for name, text in self.requests.items() if is_extended(name)}}
        tables = {"requests": dict(self.requests), "limits": limits}
        return {kind: table for kind, table in tables.items() if table}
