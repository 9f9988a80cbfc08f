"""The job file: YAML for people who write no Python. An error in it says the line, the field, and the nearest right name.

The one importer of PyYAML. A number keeps the text that it was written with, so that `VERSION: 1.10` is not 1.1 as a variable.
"""

from __future__ import annotations

from typing import Any

import yaml
from attrs import field, frozen

from psbarrier.errors import InvalidArgumentError
from psbarrier.k8s.fields import Part
from psbarrier.k8s.shape import MisfitError, Path, dotted
from psbarrier.k8s.template import JobTemplate

_MOST = 20_000
"""Values in one file, those that aliases repeat too."""


class WrittenInt(int):
    """A whole number, and its `text`."""

    text: str


class WrittenFloat(float):
    """Another number, and its `text`."""

    text: str


@frozen
class _Reader:
    """Turns YAML nodes into values, and notes the line of each."""

    name: str
    constructor: yaml.SafeLoader
    lines: dict[Path, int] = field(factory=dict)
    count: list[int] = field(factory=list)

    def fail(self, line: int, wrong: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"{self.name}, line {line}: {wrong}")

    def read(self, node: yaml.Node, path: Path = ()) -> Any:
        """The value of a node."""
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.count.append(line)
        if len(self.count) > _MOST:
            raise self.fail(line, f"the file has more than {_MOST} values, those that aliases repeat counted each time")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(each, (*path, index)) for index, each in enumerate(node.value)]
        return self._scalar(node, line, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self.constructor.flatten_mapping(node)  # what << brings in stands before the node's own
        found: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise self.fail(line, f"{dotted(path)}has a key that is no text")
            name, mark = str(key.value), key.start_mark.index
            if name in seen and node.start_mark.index <= seen[name] < node.end_mark.index:
                raise self.fail(line, f"{dotted((*path, name))}stands here twice")
            seen[name] = mark
            self.lines[(*path, name)] = line
            found[name] = self.read(value, (*path, name))
        return found

    def _scalar(self, node: yaml.Node, line: int, path: Path) -> Any:
        try:
            value = self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise self.fail(line, f"{dotted(path)}cannot be read: {str(error).splitlines()[0]}") from error
        if isinstance(value, bool | str) or value is None:
            return value
        if isinstance(value, int | float) and ":" not in node.value:  # YAML 1.1 takes 2:8 for 128, as of minutes
            number = WrittenInt(value) if isinstance(value, int) else WrittenFloat(value)
            number.text = str(node.value)
            return number
        return str(node.value)  # a date or a time, say, which is a text to us


def load(text: str, name: str = "the job file") -> JobTemplate:
    """The job that a file describes; `name` is what errors call it.

    Raises InvalidArgumentError, with the line, for what is no YAML, has an unknown field, or can never work.
    """
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        raise InvalidArgumentError(f"{name} holds characters that YAML does not allow") from error
    reader = _Reader(name, loader)
    try:
        node = loader.get_single_node()
        value = None if node is None else reader.read(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise reader.fail(line, f"this is no YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise InvalidArgumentError(f"{name} is nested too deep, or contains itself") from error
    except yaml.YAMLError as error:
        raise InvalidArgumentError(f"{name} is no YAML: {str(error).splitlines()[0]}") from error
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{name} describes no job: it needs the fields name, image, command, roles and etcd")
    try:
        job: JobTemplate = Part(JobTemplate).read(value)
    except MisfitError as error:
        raise reader.fail(_line(reader.lines, error.path), str(error)) from error
    return job


def _line(lines: dict[Path, int], path: Path) -> int:
    """Where the path stands, or the nearest that is around it."""
    while path not in lines:
        path = path[:-1]
    return lines[path]
