"""Documents: manifests as YAML text, fast, the same every time, and read by every reader of YAML as what was meant.

Only what JSON can say is written. A text stands without quotes only where no version of YAML takes it for anything else:
Kubernetes' reader takes 1e3 for a number, which Python's does not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9./_-]*(:[A-Za-z0-9./_-]+)*|--?[a-z][a-z0-9=/._-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}


def dump(objects: Iterable[Any]) -> str:
    """The objects as a stream of documents."""
    return "".join("\n".join(["---", *_lines(each), ""]) for each in objects)


def _lines(value: Any, indent: int = 0) -> Iterator[str]:
    """The lines of a mapping or a list that is not empty, or the one line of anything else."""
    pad = " " * indent
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _entry(f"{pad}{_text(key)}:", each, indent + 2)
    elif isinstance(value, list | tuple) and value:
        for each in value:
            if isinstance(each, Mapping | list | tuple) and each:
                first, *rest = _lines(each, indent + 2)
                yield f"{pad}- {first.lstrip()}"
                yield from rest
            else:
                yield from _entry(f"{pad}-", each, indent + 2)
    else:
        yield pad + _scalar(value)


def _entry(start: str, value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield start
        yield from _lines(value, indent)
    elif isinstance(value, str) and _block(value):
        yield f"{start} |"
        yield from (f"{' ' * indent}{line}" if line else "" for line in value[:-1].split("\n"))
    else:
        yield f"{start} {_scalar(value)}"


def _block(text: str) -> bool:
    """Whether a text of several lines can stand as it is: it ends with one line's end, and nothing in it is odd."""
    lines = text.split("\n")
    bare = lines[:-1]
    return (
        len(bare) > 1
        and lines[-1] == ""
        and bare[0][:1].strip() != ""
        and bare[-1] != ""
        and all(line.isprintable() for line in bare)
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, list | tuple) else repr(value)


@functools.lru_cache(maxsize=4096)  # the Pods of a job have nearly all texts in common
def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
