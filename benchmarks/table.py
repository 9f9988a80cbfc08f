"""A report as a table: for people who look at a terminal, and in Markdown."""

from __future__ import annotations

from benchmarks.result import Report, Result

_UNITS = {"s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))}


def rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Heads and cells: a row for each name, a column for each value of the axis; without an axis, one for the figure."""
    if report.axis is None:
        heads = ["", "median", "quartiles", "samples"]
        return heads, [[_label(r), quantity(r.median, r.unit), spread(r), str(len(r.samples))] for r in report.results]
    steps = sorted({r.parameters[report.axis] for r in report.results})
    cells = [[name, *(_cell(report.find(name, **{report.axis: step})) for step in steps)] for name in report.names()]
    return [report.axis, *map(str, steps)], cells


def text(report: Report) -> str:
    """For a terminal."""
    heads, cells = rows(report)
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heads, *cells)
    ]
    missing = [f"left out: {name}: {reason}" for name, reason in report.left_out.items()]
    return "\n".join([report.title, *lines, *missing])


def markdown(report: Report) -> str:
    """For a page."""
    return markdown_table(*rows(report))


def markdown_table(heads: list[str], cells: list[list[str]]) -> str:
    """Heads and rows of text as a table of Markdown."""
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quantity(value: float, unit: str) -> str:
    """Three digits, in the unit in which they read best."""
    scales = _UNITS.get(unit, ((1.0, unit),))
    scale, name = next(((scale, name) for scale, name in scales if value >= scale), scales[-1])
    shown = value / scale
    whole = value == 0 or (shown.is_integer() and unit not in _UNITS)
    digits = 0 if whole or shown >= 99.95 else 1 if shown >= 9.995 else 2
    return f"{shown:,.{digits}f} {name}".rstrip()


def tick(value: float, unit: str) -> str:
    """As `quantity`, for the marks of an axis: 10 ms, not 10.0 ms."""
    number, _, name = quantity(value, unit).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {name}".rstrip()


def spread(result: Result) -> str:
    """From quartile to quartile."""
    lower, upper = (quantity(value, result.unit) for value in result.spread)
    return f"{lower} – {upper}"


def _cell(result: Result | None) -> str:
    return "–" if result is None else f"{quantity(result.median, result.unit)} ({spread(result)})"


def _label(result: Result) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in result.parameters.items())
    return f"{result.name} ({rest})" if rest else result.name
