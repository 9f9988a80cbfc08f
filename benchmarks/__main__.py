"""All benchmarks, one after the other: python -m benchmarks [--full] [--only NAME …] [--out FOLDER] [--page]

With --full at the sizes that something is promised of, which takes hours and 20 GB; without, in a quarter of an hour.
With --page, docs/performance.md is brought up to date afterwards.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import command, page
from benchmarks.group import ROOT

# Each benchmark, and its arguments with --full.
BENCHMARKS: dict[str, list[str]] = {
    "barrier": ["--processes", "2", "8", "32", "64", "--rounds", "50"],
    "barrier_profile": ["--rounds", "500"],
    "group_start": ["--processes", "8", "32", "64", "128", "--rounds", "3"],
    "start_profile": ["--rounds", "5"],
    "detection": ["--rounds", "20"],
    "failover": ["--rounds", "10"],
    "auth_start": ["--rounds", "3"],
    "scale": ["--members", "100", "1000", "10000"],
    "footprint": ["--rounds", "10", "--crowd", "1000", "--seconds", "60"],
    "restart": ["--members", "32"],
}


def main() -> None:
    """The command. Exits with 1 when one of them has failed; the others run all the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the sizes that something is promised of")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=command.OUT, help="where the results go (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="write the results into docs/performance.md")
    options = parser.parse_args()
    failed = []
    for name in options.only:
        command.progress(f"== {name}")
        arguments = BENCHMARKS[name] if options.full else []
        run = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(options.out.absolute()), *arguments]
        if subprocess.run(run, cwd=ROOT).returncode:
            failed.append(name)
    if options.page:
        page.publish(options.out)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
