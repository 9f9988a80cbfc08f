"""Brings docs/performance.md up to date with the results of a run.

    python -m benchmarks.page [--out benchmarks/results]

What stands between `<!-- figures: NAME -->` and `<!-- end -->` is written anew from NAME.json: the table, and the picture,
which goes to docs/performance/ together with the JSON. So is what is promised, after `<!-- promises -->`. A benchmark that
has no new results keeps what stands there.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from benchmarks import command, promise, table
from benchmarks.group import ROOT
from benchmarks.result import Report

PAGE = ROOT / "docs" / "performance.md"
_PLACES = re.compile(r"<!-- (figures: (?P<name>[\w-]+)|promises) -->\n.*?<!-- end -->", re.DOTALL)


def load(folder: Path) -> dict[str, Report]:
    """All reports of a folder, by the names of their benchmarks."""
    return {path.stem: Report.load(path) for path in sorted(folder.glob("*.json"))}


def refresh(text: str, reports: dict[str, Report]) -> str:
    """The page with these reports in their places."""

    def place(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            written = promise.markdown(reports)
        elif name in reports:
            written = figures(reports[name])
        else:
            return found[0]
        return f"<!-- {found[1]} -->\n{written}\n<!-- end -->"

    return _PLACES.sub(place, text)


def figures(report: Report) -> str:
    """The table, the machine, who was left out, and the picture."""
    samples = sorted({len(result.samples) for result in report.results})
    count = str(samples[0]) if len(samples) == 1 else f"{samples[0]} to {samples[-1]}"
    shown = "One sample each" if samples == [1] else f"Medians and quartiles of {count} samples"
    versions = ", ".join(f"{name} {version}" for name, version in report.machine["versions"].items())
    facts = ", ".join(f"{name} {value}" for name, value in report.machine.items() if name != "versions")
    lines = [table.markdown(report), "", f"{shown}; {facts}; {versions}."]
    lines += [f"Left out: {name}: {reason}." for name, reason in report.left_out.items()]
    return "\n".join([*lines, "", f"![{report.title}](performance/{report.benchmark}.svg)"])


def publish(source: Path, page: Path = PAGE) -> None:
    """Keep the results of `source` beside `page`, and write them into it."""
    kept = page.with_suffix("")
    kept.mkdir(exist_ok=True)
    for path in [*source.glob("*.json"), *source.glob("*.svg")]:
        shutil.copyfile(path, kept / path.name)
    page.write_text(refresh(page.read_text(encoding="utf-8"), load(kept)), encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=command.OUT, help="where the results are (default: %(default)s)")
    publish(parser.parse_args().out)


if __name__ == "__main__":
    main()
