"""A report as a picture, in SVG and in PNG: medians, with bars from quartile to quartile.

It shows the results in the unit of the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import evolve

from benchmarks import table
from benchmarks.result import Report, Result

# Colours that people with any kind of sight tell apart (Okabe and Ito), and a mark for each, for paper.
_COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
_MARKS = "osD^vPX"
OURS = "psbarrier"


def draw(report: Report, folder: Path) -> list[Path]:
    """Write `folder`/BENCHMARK.svg and .png; nothing without matplotlib, which only the benchmarks need."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return []
    matplotlib.use("Agg")
    # The same report makes the same file, and its text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "psbarrier", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot

    report = evolve(report, results=[r for r in report.results if r.unit == report.results[0].unit])
    height = 4.2 if report.axis else 1.2 + 0.45 * len(report.results)
    figure, axes = pyplot.subplots(figsize=(7.2, height), layout="constrained")
    (_lines if report.axis else _points)(report, axes)
    axes.set_title(report.title, loc="left", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{report.benchmark}.{kind}" for kind in ("svg", "png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=110)
    pyplot.close(figure)
    return paths


def _lines(report: Report, axes: Any) -> None:
    """Both axes are logarithmic, so that a straight line is a power, and a distance is a ratio."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    axis, unit = report.axis or "", report.results[0].unit
    for name, colour, mark in zip(report.names(), _cycle(_COLOURS), _cycle(_MARKS), strict=False):
        mine = sorted((r for r in report.results if r.name == name), key=lambda r: r.parameters[axis])
        ours = name == OURS
        axes.errorbar(
            [r.parameters[axis] for r in mine],
            [r.median for r in mine],
            yerr=[*zip(*(_errors(r) for r in mine), strict=True)],
            label=name,
            color=colour,
            marker=mark,
            markersize=6 if ours else 5,
            linewidth=2.4 if ours else 1.3,
            linestyle=":" if name.endswith("the server") else "--" if name.startswith("bare") else "-",
            capsize=3,
            zorder=3 if ours else 2,
        )
    axes.set(xscale="log", yscale="log", xlabel=axis)
    axes.xaxis.set_major_locator(FixedLocator(sorted({r.parameters[axis] for r in report.results})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: table.tick(value, unit)))
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: table.tick(value, unit)))
    axes.tick_params(axis="y", which="minor", labelsize=8)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.7)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _points(report: Report, axes: Any) -> None:
    """One line for each result; logarithmic where the smallest would not be seen beside the largest."""
    from matplotlib.ticker import FuncFormatter

    results, unit = report.results, report.results[0].unit
    places = list(range(len(results)))[::-1]
    medians = [r.median for r in results]
    errors = [*zip(*(_errors(r) for r in results), strict=True)]
    axes.errorbar(medians, places, xerr=errors, fmt="o", color=_COLOURS[0], markersize=6, capsize=3)
    for place, result in zip(places, results, strict=True):
        text = table.quantity(result.median, result.unit)
        axes.annotate(text, (result.median, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(places, [r.name for r in results])
    axes.set_ylim(-0.5, len(results) - 0.3)
    if 0 < min(medians) * 30 < max(medians):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: table.tick(value, unit)))
    axes.grid(visible=True, axis="x", which="major", color="#dddddd", linewidth=0.7)


def _errors(result: Result) -> tuple[float, float]:
    lower, upper = result.spread
    return result.median - lower, upper - result.median


def _cycle(values: Any) -> Iterator[Any]:
    while True:
        yield from values
