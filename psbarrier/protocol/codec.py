"""Bytes ↔ JSON objects with a version. Values read from etcd are untrusted: whatever is in them, the answer is a value
or a MalformedValueError that names the key.

A value is canonical JSON (sorted keys, no spaces, ASCII), so that equal values are equal bytes; above 4 KiB it is
compressed by zlib and begins with `z` instead of `{`.

What is accepted can also be used: it can be written again, shown on a terminal, and held in memory. So no number is
infinite, no text has half a character in it, control characters are shown as spaces, and each kind of value has a size
that it never exceeds.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from psbarrier.arguments import check_json
from psbarrier.errors import MalformedValueError

VERSION = 1
COMPRESS_ABOVE = 4096
SMALL = 64 * 1024
"""Bytes, decompressed: far more than any value has that does not grow with the job."""
LARGE = 32 * 1024 * 1024
"""Bytes, decompressed: a spec of 100,000 members takes 10 MB of them."""
MOST_CONTAINERS = 1_000_000
"""Lists and objects in one value: each takes far more memory than the two bytes by which a hostile value makes one."""
END_OF_TIME = 253_402_300_800.0
"""The year 10000, in seconds since 1970: no calendar goes any further."""

T = TypeVar("T")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def encode_text(fields: Mapping[str, Any]) -> str:
    """The canonical JSON of `fields`, with the format's version added; never compressed."""
    return _ENCODER.encode({"v": VERSION, **fields})


def encode(fields: Mapping[str, Any]) -> bytes:
    """The canonical bytes of `fields`, with the format's version added."""
    text = encode_text(fields).encode()
    return text if len(text) <= COMPRESS_ABOVE else b"z" + zlib.compress(text, 6)


def decode(key: str, value: bytes, build: Callable[[Fields], T], *, most: int = SMALL) -> T:
    """What `build` makes of the value's fields; anything unexpected is a MalformedValueError naming `key`.

    A value of more than `most` bytes, decompressed, is not even looked at.
    """
    try:
        fields = _DECODER.decode(_text(value, most))
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


def one_line(text: str) -> str:
    """`text` without what would move a terminal's cursor or change its colours."""
    return _CONTROL.sub(" ", text)


def _text(value: bytes, most: int) -> str:
    text = value
    if value[:1] == b"z":
        inflater = zlib.decompressobj()
        text = inflater.decompress(value[1:], most)
        if inflater.unconsumed_tail or not inflater.eof:
            raise ValueError(f"the compressed value is cut off, or more than {most} bytes long")
    if len(text) > most:
        raise ValueError(f"the value is more than {most} bytes long")
    if text.count(b"[") + text.count(b"{") > MOST_CONTAINERS:
        raise ValueError(f"the value has more than {MOST_CONTAINERS} lists and objects")
    return text.decode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# Made once: json.dumps and json.loads make new ones for each value when they are asked for anything out of the ordinary.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def whole_text(value: str) -> str:
    """`value` as it can be shown; ValueError when it has half a character in it, which nothing can print."""
    if value.isascii() and value.isprintable():  # as nearly all are, and each process reads those of all others
        return value
    value.encode()
    return one_line(value)


def moment(seconds: float) -> float:
    """`seconds` since 1970 if there is such a day; else ValueError."""
    if not 0 <= seconds < END_OF_TIME:
        raise ValueError(f"{seconds!r:.40} is no time")
    return seconds


class Fields:
    """A decoded object, read field by field with the type that is expected there."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def text(self, name: str, default: str | None = None) -> str:
        return whole_text(self._typed(name, str, default))

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

    def time(self, name: str, default: float | None = None) -> float:
        """Seconds since 1970, of which a calendar can tell the day."""
        return moment(self.number(name, default))

    def listed(self, name: str) -> list[Any]:
        return self._typed(name, list, None)  # type: ignore[no-any-return]

    def words(self, name: str) -> dict[str, str]:
        """An object whose values are texts."""
        found = self.mapping(name)
        if not all(isinstance(value, str) for value in found.values()):
            raise TypeError(f"{name} does not hold texts only")
        return {whole_text(word): whole_text(value) for word, value in found.items()}

    def mapping(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._typed(name, dict, default)  # type: ignore[no-any-return]

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.listed(name)
        if not all(isinstance(value, str) for value in values):
            raise TypeError(f"{name} is not a list of texts")
        return tuple(whole_text(value) for value in values)

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

    def json(self, name: str, default: Any = None) -> Any:
        """Whatever is under `name`, which can be written as JSON again."""
        value = self._fields[name] if default is None else self._typed(name, type(default), default)
        check_json(value)
        return value

    def _typed(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self._fields.get(name, default)
        if value is None:
            raise KeyError(name)
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r:.40}")
        return value
