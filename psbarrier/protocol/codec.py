"""Bytes ↔ JSON objects with a version. Values read from etcd are untrusted: whatever is in them, the answer is a value
or a MalformedValueError that names the key.

A value is canonical JSON (sorted keys, no spaces, ASCII), so that equal values are equal bytes; above 4 KiB it is
compressed by zlib and begins with `z` instead of `{`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from psbarrier.errors import MalformedValueError

VERSION = 1
COMPRESS_ABOVE = 4096
MAX_DECODED = 64 * 1024 * 1024

T = TypeVar("T")


def encode_text(fields: Mapping[str, Any]) -> str:
    """The canonical JSON of `fields`, with the format's version added; never compressed."""
    return json.dumps({"v": VERSION, **fields}, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(fields: Mapping[str, Any]) -> bytes:
    """The canonical bytes of `fields`, with the format's version added."""
    text = encode_text(fields).encode()
    return text if len(text) <= COMPRESS_ABOVE else b"z" + zlib.compress(text, 6)


def decode(key: str, value: bytes, build: Callable[[Fields], T]) -> T:
    """What `build` makes of the value's fields; anything unexpected is a MalformedValueError naming `key`."""
    try:
        fields = json.loads(_inflate(value) if value[:1] == b"z" else value)
        if not isinstance(fields, dict):
            raise TypeError("not a JSON object")
        if fields.get("v") != VERSION:
            raise ValueError(f"format version {fields.get('v')!r:.40}, and this psbarrier reads version {VERSION}")
        return build(Fields(fields))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, zlib.error) as error:
        raise MalformedValueError(
            f"the value of {key!r} in etcd cannot be used ({type(error).__name__}: {error!s:.200}): another version of "
            "psbarrier or another program wrote it; use one version for the whole job, or another prefix",
            key=key,
        ) from error


def _inflate(value: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(value[1:], MAX_DECODED)
    if inflater.unconsumed_tail or not inflater.eof:
        raise ValueError(f"the compressed value is cut off, or more than {MAX_DECODED} bytes long")
    return text


class Fields:
    """A decoded object, read field by field with the type that is expected there."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def text(self, name: str, default: str | None = None) -> str:
        return str(self._typed(name, str, default))

    def whole(self, name: str, default: int | None = None) -> int:
        value: int = self._typed(name, int, default)
        if isinstance(value, bool) or not -(2**63) <= value < 2**63:
            raise ValueError(f"{name} is {value!r:.40}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._typed(name, (int, float), default)
        if isinstance(value, bool) or not abs(value) < 1e300:
            raise ValueError(f"{name} is {value!r:.40}")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        return bool(self._typed(name, bool, default))

    def listed(self, name: str) -> list[Any]:
        return self._typed(name, list, None)  # type: ignore[no-any-return]

    def mapping(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._typed(name, dict, default)  # type: ignore[no-any-return]

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.listed(name)
        if not all(isinstance(value, str) for value in values):
            raise TypeError(f"{name} is not a list of texts")
        return tuple(values)

    def inner(self, name: str) -> Fields | None:
        """The object under `name`, or None where it is missing or null."""
        value = self._fields.get(name)
        if value is None:
            return None
        return Fields(self.mapping(name))

    def has(self, name: str) -> bool:
        return name in self._fields

    def raw(self, name: str) -> Any:
        return self._fields[name]

    def _typed(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self._fields.get(name, default)
        if value is None:
            raise KeyError(name)
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r:.40}")
        return value
