"""A benchmark as a command: its options, and what becomes of its report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
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


def run(options: argparse.Namespace, measure: Callable[[argparse.Namespace], Report]) -> None:
    """Measure; then print the JSON, or print a table and write JSON and plots."""
    report = measure(options)
    if options.json:
        print(report.dumps(), end="")
        return
    print(table.text(report))
    written = [report.save(options.out), *plot.draw(report, options.out)]
    print("written:", *(path.name for path in written), "in", options.out)


def progress(text: str) -> None:
    """A line for who waits."""
    print(text, file=sys.stderr, flush=True)
