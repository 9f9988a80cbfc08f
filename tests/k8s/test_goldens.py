"""What is made of a job file is what a reviewer has read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from k8s.goldens import CASES, FOLDER, made, path
from psbarrier.k8s import manifests
from psbarrier.k8s.documents import dump
from psbarrier.k8s.jobfile import load
from psbarrier.k8s.schema import schema

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(("case", "kind"), CASES)
def test_the_golden_files_are_what_is_made(case: str, kind: str) -> None:
    """`PYTHONPATH=tests python tests/k8s/goldens.py` writes them anew; read the difference."""
    assert made(case, kind) == path(case, kind).read_text()


@pytest.mark.parametrize(("case", "kind"), CASES)
def test_a_rendered_file_reads_as_the_manifests_it_was_made_of(case: str, kind: str) -> None:
    """No text turns into a number or a truth value on its way."""
    job = load((FOLDER / case / "described.yaml").read_text())
    assert list(yaml.safe_load_all(path(case, kind).read_text())) == manifests(job, kind)


def test_texts_that_look_like_something_else_are_quoted() -> None:
    """Kubernetes' reader of YAML is not Python's: it takes 1e3 for a number."""
    odd = [
        "1e3",
        "0x1F",
        "0o17",
        "1_000",
        "yes",
        "N",
        "null",
        "~",
        "",
        "12:30",
        "2026-11-26",
        ".5",
        "=",
        "<<",
        "a: b",
        "# a",
    ]
    assert all(f'"{text}"' in dump([[text]]) for text in odd)
    assert yaml.safe_load(dump([odd])) == odd


texts = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=3))
@example([{"a": "b\nc\n", "d": ["x\n\ny\n", " x\ny\n", "x\n\n", [[1], {}, []]]}, {"": [{"a": [{"b": None}]}]}])
def test_whatever_json_can_say_is_read_as_it_was_meant(values: list[Any]) -> None:
    """Texts with anything in them, lists in lists, what is empty."""
    assert list(yaml.safe_load_all(dump(values))) == values


def test_the_schema_for_editors_is_that_of_the_code() -> None:
    """`psbarrier k8s schema > docs/job.schema.json` writes it anew."""
    assert json.loads((ROOT / "docs" / "job.schema.json").read_text()) == schema()
