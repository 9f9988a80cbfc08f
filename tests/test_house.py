"""The arrows between the modules point one way, and each foreign library is known in one place only.

A new module or library fails here until it stands in the tables below: that is where its place is decided.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parent.parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "psbarrier").rglob("*.py"))
}

VALUES = {"times", "errors", "arguments", "names", "spec", "state", "policy"}
PURE = VALUES | {"store.base", "protocol", "flows"}
RUNNING = PURE | {"drive", "hold", "home", "report", "runner", "session", "shelf", "shelter", "watches"}
SERVER = {"embedded", "etcd_binary", "sitter"}

# Each unit (a module, or a package below psbarrier/ with all that is in it) and the units that it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "times": set(),
    "arguments": {"errors"},
    "names": {"errors"},
    "spec": {"errors", "names"},
    "state": {"errors", "names", "spec"},
    "policy": {"errors", "names", "spec", "state"},
    "settings": {"errors", "arguments", "names", "spec", "state", "policy"},
    "emit": {"errors", "names", "spec"},
    "k8s": VALUES | {"emit"},
    "store.base": {"errors", "names", "spec"},
    "shelter": set(),
    "home": {"errors"},
    "store": {"errors", "names", "home", "shelter", "store.base"},
    "protocol": VALUES | {"store.base"},
    "flows": VALUES | {"store.base", "protocol"},
    "runner": PURE | {"drive", "home"},
    "shelf": PURE,
    "hold": PURE,
    "watches": PURE,
    "report": PURE,
    "drive": PURE,
    "session": PURE | {"drive", "hold", "home", "report", "runner", "shelf", "shelter", "watches"},
    "leader": RUNNING,
    "barrier": RUNNING,
    "notifier": RUNNING,
    "member": RUNNING | {"leader", "barrier", "notifier", "settings", "store", "tether"},
    "sitter": set(),
    "etcd_binary": {"errors"},
    "embedded": {"errors", "etcd_binary", "sitter"},
    "link": {"errors"},
    "link_proxy": {"errors", "link"},
    "cluster_links": {"errors", "link", "link_proxy"},
    "etcd_member": {"errors", "etcd_binary", "embedded", "cluster_links"},
    "etcd_cluster": {"errors", "embedded", "cluster_links", "etcd_member"},
    "address": {"errors"},
    "account": PURE | {"store"},
    "doctor": PURE | {"store", "address"},
    "connect": {"errors", "arguments", "settings", "store"},
    "exit_status": set(),
    "parent": set(),
    "tether": set(),
    "guardian": RUNNING | {"exit_status", "store", "tether"},
    "guardian_process": RUNNING | {"exit_status", "guardian", "parent", "store"},
    "asking": RUNNING | {"settings", "address"},
    "join": RUNNING | {"asking", "connect", "guardian", "member", "store", "tether"},
    "testing": RUNNING
    | SERVER
    | {"etcd_cluster", "settings", "leader", "barrier", "member", "asking", "join", "store"},
    "torchrun": {"torch_rendezvous"},
    "torch_rendezvous": RUNNING | {"address", "connect", "join", "member", "store"},
    "pytest_plugin": {"errors", "embedded", "store"},
    "cli": RUNNING
    | SERVER
    | {"psbarrier", "exit_status", "settings", "tether", "barrier", "member", "asking", "join", "connect", "address"}
    | {"store", "emit", "k8s", "account", "doctor"},
    "psbarrier": VALUES | {"store.base", "store", "emit", "member", "barrier", "connect", "join"},
}

# Arrows that would be circles at import time: allowed inside a function only.
LAZILY = {("spec", "emit")}

# Each foreign library and the modules that may import it.
FOREIGN: dict[str, list[str]] = {
    "attrs": ["psbarrier.*"],
    "etcd3": ["psbarrier.store.*"],
    "grpc": ["psbarrier.store.*"],
    "google": ["psbarrier.store.*"],
    "jax": ["psbarrier.emit.jax."],
    "kubernetes": ["psbarrier.k8s.*"],
    "urllib3": ["psbarrier.k8s.*"],
    "yaml": ["psbarrier.k8s.*"],
    "click": ["psbarrier.cli.*"],
    "rich": ["psbarrier.cli.*"],
    "pytest": ["psbarrier.pytest_plugin"],
    "torch": ["psbarrier.torch_rendezvous"],
}
# … except these, which are for everybody and so must be light.
LIGHT = [
    "psbarrier.sitter",
    "psbarrier.store",
    "psbarrier.store.base",
    "psbarrier.store.memory*",
    "psbarrier.store.*clock",
]

# What a fresh interpreter imports, and what must not come with it.
HEAVY = {"etcd3", "grpc", "google.protobuf", "kubernetes", "yaml", "click", "rich", "jax"}
FRESH = [
    "psbarrier",
    "psbarrier.embedded",
    "psbarrier.emit",
    "psbarrier.k8s",
    "psbarrier.protocol",
    "psbarrier.pytest_plugin",
    "psbarrier.store.memory",
    "psbarrier.testing",
]


@frozen
class Import:
    """One import statement's target, and where it stands."""

    source: str
    target: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}, imports {self.target}"


def unit(module: str) -> str:
    """The row of MAY_IMPORT that a module belongs to."""
    parts = module.split(".")[1:]
    if not parts:
        return "psbarrier"
    return "store.base" if parts[:2] == ["store", "base"] else parts[0]


def targets(source: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The full names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = source if SOURCES[source].name == "__init__.py" else source.rpartition(".")[0]
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    # `from psbarrier import emit` means the module psbarrier.emit.
    yield from {name if (name := f"{base}.{alias.name}") in SOURCES else base for alias in node.names}


def imports(source: str) -> list[Import]:
    """Every import of one module, those inside functions and under TYPE_CHECKING too."""
    tree = ast.parse(SOURCES[source].read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return [
        Import(source, target, node.lineno, id(node) in inside)
        for node in statements
        for target in targets(source, node)
    ]


def may_use(module: str, library: str) -> bool:
    """Whether FOREIGN and LIGHT let the module import the library."""
    if library != "attrs" and any(fnmatchcase(module, pattern) for pattern in LIGHT):
        return False
    patterns = FOREIGN.get(library, [])
    return module != "psbarrier.sitter" and any(fnmatchcase(f"{module}.", f"{pattern}*") for pattern in patterns)


@pytest.mark.parametrize("source", SOURCES)
def test_every_module_has_its_place(source: str) -> None:
    """Whoever adds a module decides what it may import, in this table."""
    assert unit(source) in MAY_IMPORT, f"{source} is new: enter {unit(source)!r} into MAY_IMPORT in {__file__}."


@pytest.mark.parametrize("source", SOURCES)
def test_arrows_point_one_way(source: str) -> None:
    """No module imports one that is above it."""
    own = unit(source)
    wrong = [
        str(found)
        for found in imports(source)
        if found.target.split(".")[0] == "psbarrier"
        and (other := unit(found.target)) not in MAY_IMPORT.get(own, set()) | {own}
        and not (found.lazy and (own, other) in LAZILY)
    ]
    assert not wrong, f"{own} may import {sorted(MAY_IMPORT.get(own, set()))} only: {wrong}."


@pytest.mark.parametrize("source", SOURCES)
def test_foreign_libraries_stay_where_they_belong(source: str) -> None:
    """Whoever wants to replace a library finds all of its uses in one place."""
    known = sys.stdlib_module_names | {"psbarrier"}
    used = [found for found in imports(source) if found.target.split(".")[0] not in known]
    wrong = [str(found) for found in used if not may_use(source, found.target.split(".")[0])]
    assert not wrong, f"Not allowed by FOREIGN and LIGHT in {__file__}: {wrong}."


def test_the_table_knows_no_circle() -> None:
    """Otherwise "one way" would mean nothing."""
    left = {name: set(below) for name, below in MAY_IMPORT.items()}
    while free := [name for name, below in left.items() if not below & left.keys()]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize("module", [name for name in FRESH if name in SOURCES])
def test_importing_stays_light(module: str) -> None:
    """A program that only reads a spec, and every start of pytest, must not pay for gRPC."""
    code = f"import sys, {module}; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not HEAVY & set(said.stdout.split())


@pytest.mark.parametrize("source", SOURCES)
def test_functions_fit_on_a_screen(source: str) -> None:
    """None is longer than 50 lines."""
    tree = ast.parse(SOURCES[source].read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {node.name: length for node in functions if (length := (node.end_lineno or 0) - node.lineno + 1) > 50}
    assert not long
