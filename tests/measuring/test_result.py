"""What a benchmark writes can be read again, and says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve

from benchmarks import machine, plot, table
from benchmarks.result import Report, Result
from measuring.helpers import report


def test_median_and_quartiles_are_those_of_the_samples() -> None:
    """Of five samples the middle one, and the second and the fourth."""
    result = Result("psbarrier", {}, "s", [5.0, 1.0, 4.0, 2.0, 3.0])
    assert result.median == 3.0
    assert result.spread == (2.0, 4.0)


def test_one_sample_has_no_spread() -> None:
    """Both quartiles are the sample."""
    assert Result("psbarrier", {}, "s", [2.0]).spread == (2.0, 2.0)


def test_a_result_without_samples_is_refused() -> None:
    """A contestant that did not take part is left out, by name, and has no result."""
    with pytest.raises(ValueError, match=r"psbarrier at .* has no samples"):
        Result("psbarrier", {"processes": 2}, "s", [])


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All of it; and the file has medians and spreads for other programs."""
    written = report()
    path = written.save(tmp_path / "new folder")
    assert Report.load(path) == written
    first = json.loads(path.read_text())["results"][0]
    assert (first["median"], first["spread"]) == (0.006, [0.004, 0.008])


def test_a_ratio_is_one_of_medians_at_the_same_parameters() -> None:
    """And there is none where one of the two did not take part."""
    assert report().ratio("other", "psbarrier", processes=8) == pytest.approx(10)
    assert report().ratio("third", "psbarrier", processes=8) is None


def test_a_table_has_a_column_for_each_size() -> None:
    """Medians and quartiles with their units, and who was left out and why."""
    lines = table.text(report()).splitlines()
    assert lines[1].split() == ["processes", "2", "8"]
    assert "6.00 ms (4.00 ms – 8.00 ms)" in lines[2]
    assert "240 ms (160 ms – 320 ms)" in lines[3]
    assert lines[4] == "left out: third: it is not installed"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (12.345, "s", "12.3 s"),
        (1.5, "s", "1.50 s"),
        (0.0315, "s", "31.5 ms"),
        (0.0005, "s", "500 µs"),
        (0.0, "s", "0 µs"),
        (1234.5, "requests", "1,234 requests"),
        (6.0, "requests", "6 requests"),
        (0.25, "MB", "0.25 MB"),
    ],
)
def test_quantities_have_three_digits_and_the_unit_that_reads_best(value: float, unit: str, shown: str) -> None:
    """A reader compares them at a glance."""
    assert table.quantity(value, unit) == shown


def test_marks_of_an_axis_are_short() -> None:
    """No digits that say nothing."""
    assert [table.tick(value, "s") for value in (0.01, 0.1, 1.5, 100.0)] == ["10 ms", "100 ms", "1.5 s", "100 s"]


def test_the_machine_says_what_ran_on_it() -> None:
    """Cores, Python, and the versions of psbarrier, grpc and etcd, and of whatever else a benchmark names."""
    facts = machine.facts(ZooKeeper="3.8.0")
    assert facts["cores"] >= 1
    assert facts["Python"]
    assert facts["versions"].keys() >= {"psbarrier", "grpcio", "etcd", "ZooKeeper"}


@pytest.mark.parametrize("axis", ["processes", None])
def test_a_plot_is_drawn_in_both_formats(tmp_path: Path, axis: str | None) -> None:
    """With the names of all contestants, and the same file for the same report."""
    pytest.importorskip("matplotlib", reason="only the environment of the benchmarks has it")
    drawn = evolve(report(), axis=axis)
    svg, png = plot.draw(drawn, tmp_path)
    first = svg.read_text()
    assert all(f">{name}<" in first for name in ("psbarrier", "other", "A demonstration"))
    assert png.read_bytes().startswith(b"\x89PNG")
    plot.draw(drawn, tmp_path)
    assert svg.read_text() == first
