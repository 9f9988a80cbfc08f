"""docs/kubernetes.md: its files and programs work as they stand, and it knows every field and exit code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import attrs
import click
import pytest
import yaml

from k8s.strategies import job_of
from psbarrier.cli import exits
from psbarrier.cli.main import cli
from psbarrier.k8s import JobTemplate, manifests
from psbarrier.k8s.jobfile import load
from psbarrier.k8s.shape import camel

PAGE = (Path(__file__).parent.parent.parent / "docs" / "kubernetes.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_first_job_has_ten_lines_and_can_be_rendered() -> None:
    """For each kind."""
    text, elastic, access = blocks("yaml")
    assert len(text.splitlines()) <= 10
    job = load(text)
    assert manifests(job)
    assert job_of({**yaml.safe_load(text), **yaml.safe_load(access)}).etcd.keys() == {
        "ca": "ca.crt",
        "password": "password",
    }
    assert str(job_of({**yaml.safe_load(text), **yaml.safe_load(elastic)}).replicas) == "ps=2,worker=2:8"


def test_the_program_runs_as_it_stands() -> None:
    """And makes a JobSet."""
    (text,) = blocks("python")
    found: dict[str, object] = {}
    exec(text, found)
    objects = found["objects"]
    assert isinstance(objects, list)
    assert [each["kind"] for each in objects] == ["JobSet"]


def test_every_field_is_there() -> None:
    """Of a job; those of its parts are named beside them."""
    table = PAGE.split("## The fields")[1].split("\n## ")[0]
    assert {camel(each.name) for each in attrs.fields(JobTemplate)} <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.parametrize("code", [110, 111, 112, 113, 114])
def test_every_exit_code_has_its_consequence(code: int) -> None:
    """In the table of what becomes of a Pod."""
    assert f"{code}  " in (exits.__doc__ or "")
    assert str(code) in PAGE.split("## What becomes of a Pod that ends")[1].split("\n## ")[0]


def test_the_commands_exist(tmp_path: Path) -> None:
    """Each line parses, with its options."""
    for name in ("etcd-ca.pem", "ctr.password"):
        (tmp_path / name).write_text("x")
    lines = [line.partition("#")[0] for block in blocks("sh") for line in block.splitlines()]
    for line in lines:
        text = line.partition("|")[0].replace("etcd-ca.pem", str(tmp_path / "etcd-ca.pem"))
        program, name, *arguments = shlex.split(
            text.replace("--password-file ctr.p", f"--password-file {tmp_path}/ctr.p")
        )
        assert program == "psbarrier"
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        if name == "k8s":
            command, arguments = command.commands[arguments[0]], arguments[1:]  # type: ignore[attr-defined]  # it is a group
        with command.make_context(name, arguments) as context:
            assert context.params
