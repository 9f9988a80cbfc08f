"""What the README says is so: its tables are the code's, its programs run, its commands exist."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import psbarrier
from psbarrier import errors
from psbarrier.cli import exits
from psbarrier.cli.main import COMMANDS, cli
from psbarrier.embedded import EtcdServer
from psbarrier.emit import FORMATS
from psbarrier.settings import READ, WRITTEN

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"The README has no section {title!r}."
    return found[1]


def blocks(title: str, language: str) -> list[str]:
    """The code of a section."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def rows(text: str) -> dict[str, str]:
    """A table of two columns, without its heading."""
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {first: second for first, second in found if first not in ("variable", "error", "exit code")}


def test_every_variable_is_listed_as_the_code_describes_it() -> None:
    """The tables are made from psbarrier/settings.py; a difference means that one of the two was forgotten."""

    def table(variables: Mapping[str, str]) -> dict[str, str]:
        return {f"`{name}`": meaning for name, meaning in variables.items()}

    read, written = section("Environment variables").split("\nWritten", 1)
    assert rows(read) == table(READ)
    assert rows(written) == table(WRITTEN)


def test_every_error_has_its_advice() -> None:
    """Each class of the tree, with the builtin that it also is, and none that does not exist."""
    classes = [found for _, found in inspect.getmembers(errors, inspect.isclass) if found.__module__ == errors.__name__]
    wanted = set()
    for kind in classes:
        builtin = [
            base.__name__ for base in kind.__bases__ if base.__module__ != errors.__name__ and base is not Exception
        ]
        wanted.add(f"{kind.__name__} ({builtin[0]})" if builtin else kind.__name__)
    assert set(rows(section("Errors, and what to do about each"))) == wanted - {"PsBarrierError"}


def test_every_format_is_described() -> None:
    """And none that there is not."""
    described = re.findall(r"^\| `([a-z-]+)` \|", section("With a framework"), re.MULTILINE)
    assert sorted(described) == sorted(FORMATS)


def test_the_exit_codes_are_those_of_the_code() -> None:
    """Number and meaning."""
    doc = inspect.getdoc(exits)
    assert doc is not None
    coded = dict(re.findall(r"^ *([0-9]+|128 \+ N) {2,}(.+)$", doc, re.MULTILINE))
    assert rows(section("On the command line")) == coded


def test_the_commands_exist() -> None:
    """Every line parses, with its options."""
    lines = [line.partition("#")[0] for line in blocks("On the command line", "sh")[0].splitlines()]
    for line in lines:
        program, name, *arguments = shlex.split(line)
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert program == "psbarrier"
        with command.make_context(name, arguments) as context:
            assert context.params
    assert {shlex.split(line)[1] for line in lines} == set(COMMANDS) - {"k8s"}


def test_a_command_finds_the_variables_that_are_listed(etcd: EtcdServer) -> None:
    """What `psbarrier run` sets, as the command sees it: no more, and no less but for what says how to log in."""
    program = "from psbarrier.cli.main import main; main()"
    names = "import os; print(*(name for name in os.environ if name.startswith('PSBARRIER_')))"
    options = [
        "--endpoints",
        etcd.endpoint,
        "--job",
        f"readme-{uuid.uuid4().hex[:8]}",
        "--role",
        "ps",
        "--replicas",
        "ps=1",
    ]
    said = subprocess.run(
        [sys.executable, "-c", program, "run", *options, "--", sys.executable, "-c", names],
        env={name: value for name, value in os.environ.items() if not name.startswith("PSBARRIER_")},
        capture_output=True,
        text=True,
        check=True,
    )
    listed = [re.sub(r"^_", "PSBARRIER_", name) for names in WRITTEN for name in names.split(", ")]
    login = {f"PSBARRIER_{name}" for name in ("CA", "CERT", "KEY", "USER", "PASSWORD_FILE", "ALLOW_PLAINTEXT_PASSWORD")}
    assert set(said.stdout.split()) == set(listed) - login


def test_the_checks_are_those_that_are_run_elsewhere() -> None:
    """The second command for a fresh machine is, letter for letter, what the project itself calls."""
    command = blocks("Try it", "sh")[1]
    assert "tox" in command
    assert command in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere() -> None:
    """To a file, or to a heading of this page."""
    headings = {f"#{title.lower().replace(' ', '-')}" for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target in headings or (ROOT / target).exists(), target


def test_the_program_runs_as_it_stands(etcd: EtcdServer) -> None:
    """Both halves of it, as all six tasks of a job on a real etcd."""
    worker, ps = blocks("In a training program", "python")
    job, ended = f"readme-{uuid.uuid4().hex[:8]}", dict[str, Any]()
    given: dict[str, Any] = {
        "psbarrier": psbarrier,
        "train_one_epoch": lambda addresses: None,
        "serve_in_a_thread": lambda address: address,
    }

    def run(code: str, role: str, index: int) -> None:
        code = code.replace("etcd-0:2379,etcd-1:2379", etcd.endpoint).replace('"ctr"', f'"{job}"')
        code = re.sub(r"index=\d", f"index={index}", code).replace("os.environ.update", "environment.update")
        found = given | {"environment": {}}
        exec(compile(code, f"README.md, {role}", "exec"), found)
        ended[f"{role}/{index}"] = found["me"].job_state.phase, found["environment"]

    tasks = [(worker, "worker", index) for index in range(4)] + [(ps, "ps", index) for index in range(2)]
    # Daemons: when one of them fails, the others would wait for it until their own deadlines.
    threads = [threading.Thread(target=run, args=task, daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == ["ps/0", "ps/1", "worker/0", "worker/1", "worker/2", "worker/3"]
    assert ended["ps/0"][0] == ended["ps/1"][0] == "succeeded"
    assert json.loads(ended["worker/3"][1]["TF_CONFIG"])["task"] == {"type": "worker", "index": 3}


def test_the_test_runs_as_it_stands() -> None:
    """The example of a test is one that passes."""
    found: dict[str, Any] = {}
    exec(compile(blocks("Testing what you build on it", "python")[0], "README.md", "exec"), found)
    found["test_a_restarted_worker_goes_on_at_the_second_epoch"]()
