"""The campaign's command; see the package's docstring."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from faults.campaign import Campaign, summary, versions
from faults.drawing import plan_of


@click.command()
@click.option("--seed", type=int, default=1, show_default=True, help="What all rounds follow from.")
@click.option("--rounds", type=int, default=100, show_default=True, help="How many rounds there are.")
@click.option("--parallel", type=int, default=2, show_default=True, help="How many are played side by side.")
@click.option("--only", type=int, multiple=True, help="Play this round alone; repeatable.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the verdicts, and of what failed."
)
def main(seed: int, rounds: int, parallel: int, only: tuple[int, ...], out: Path) -> None:
    """Play rounds with faults. Those whose verdict is in OUT already are not played again. Exits 1 after a violation."""
    plans = [plan_of(seed, number) for number in only or range(rounds)]
    verdicts = list(Campaign(out, parallel, click.echo).play(plans))
    click.echo(f"\n{versions()}\n\n{summary(verdicts)}")
    sys.exit(any(said["violations"] for said in verdicts))


if __name__ == "__main__":
    main()
