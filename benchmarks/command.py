"""A benchmark as a command: its options, and what becomes of its report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import plot, table
from benchmarks.result import Report

OUT = Path(__file__).parent / "results"


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have; the first paragraph of `description` is its title."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=OUT, help="where the JSON and the plots go (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="print the JSON, and write nothing")
    return made


def run(options: argparse.Namespace, measure: Callable[[argparse.Namespace], Report | Sequence[Report]]) -> None:
    """Measure; then print the JSON, a list of reports, or print tables and write JSON and plots."""
    found = measure(options)
    reports = [found] if isinstance(found, Report) else found
    if options.json:
        print(f"[{','.join(report.dumps() for report in reports)}]")
        return
    for report in reports:
        print(table.text(report))
        written = [report.save(options.out), *plot.draw(report, options.out)]
        print("written:", *(path.name for path in written), "in", options.out, end="\n\n", flush=True)


def progress(text: str) -> None:
    """A line for who waits."""
    print(text, file=sys.stderr, flush=True)
