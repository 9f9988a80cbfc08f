"""docs/performance.md holds what was measured, and says whether that is what was promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import evolve

from benchmarks import __main__ as everything
from benchmarks import page
from benchmarks.group import ROOT
from benchmarks.promise import Promise
from measuring.helpers import report

OURS = {"benchmark": "demo", "name": "psbarrier", "parameters": {"processes": 8}}


def test_figures_are_written_between_their_marks() -> None:
    """Table, machine, who was left out, and picture; all else stays, and so does what has no new results."""
    text = "before\n<!-- figures: demo -->\nold\n<!-- end -->\n<!-- figures: other -->\nold\n<!-- end -->\nafter\n"
    found = page.refresh(text, {"demo": report()})
    assert found.startswith("before\n<!-- figures: demo -->\n| processes | 2 | 8 |\n")
    assert "Medians and quartiles of 5 samples; cores 2; etcd 3.5.1." in found
    assert "Left out: third: it is not installed." in found
    assert "![A demonstration](performance/demo.svg)" in found
    assert found.endswith("<!-- end -->\n<!-- figures: other -->\nold\n<!-- end -->\nafter\n")
    assert page.refresh(found, {"demo": report()}) == found


def test_a_single_sample_has_no_median() -> None:
    """The page says so."""
    several = report()
    single = evolve(several, results=[evolve(result, samples=result.samples[:1]) for result in several.results])
    assert "One sample each; cores 2; etcd 3.5.1." in page.figures(single)


def test_results_are_kept_beside_the_page(tmp_path: Path) -> None:
    """So that it can be written anew, and its pictures are there."""
    source, where = tmp_path / "results", tmp_path / "page.md"
    where.write_text("<!-- figures: demo -->\n<!-- end -->\n")
    report().save(source)
    (source / "demo.svg").write_text("<svg/>")
    page.publish(source, where)
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"demo.json", "demo.svg"}
    assert "| psbarrier |" in where.read_text()


def test_a_peer_must_be_so_many_times_slower() -> None:
    """The fastest of those that took part counts; nobody is compared with who was left out."""
    promise = Promise("what", bound=4.0, against=("other", "third"), **OURS)  # type: ignore[arg-type]
    assert promise.row({"demo": report()}) == ["what", "at least 4 times", "10.0 times", "yes"]
    assert evolve(promise, bound=11.0).row({"demo": report()})[-1] == "**no**"
    assert evolve(promise, against=("third",)).row({"demo": report()})[2:] == ["not measured", "–"]


def test_a_floor_may_be_so_many_times_faster() -> None:
    """The other way round."""
    promise = Promise("what", bound=1.3, against=("other",), faster=False, **OURS)  # type: ignore[arg-type]
    assert promise.row({"demo": report()}) == ["what", "at most 1.3 times", "0.1 times", "yes"]


def test_a_median_has_a_bound_of_its_own() -> None:
    """With its unit."""
    promise = Promise("what", bound=0.02, **OURS)  # type: ignore[arg-type]
    assert promise.row({"demo": report()}) == ["what", "at most 20 ms", "24 ms", "**no**"]
    assert promise.row({}) == ["what", "at most 0.02", "not measured", "–"]


def test_the_page_is_what_its_results_say() -> None:
    """Nobody wrote a figure by hand: python -m benchmarks.page."""
    written = page.PAGE.read_text(encoding="utf-8")
    assert page.refresh(written, page.load(page.PAGE.with_suffix(""))) == written


def test_the_page_shows_every_benchmark_and_each_picture_is_there() -> None:
    """Whoever adds a benchmark gives it a place."""
    written = page.PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- figures: ([\w-]+) -->", written)) >= everything.BENCHMARKS.keys()
    for picture in re.findall(r"\]\(([\w/.-]+\.svg)\)", written):
        assert (page.PAGE.parent / picture).exists(), picture


@pytest.mark.parametrize("name", everything.BENCHMARKS)
def test_every_benchmark_is_a_module(name: str) -> None:
    """Of the name under which all of them run it."""
    assert (ROOT / "benchmarks" / f"{name}.py").exists()
