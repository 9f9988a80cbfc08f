"""Proof: each mistake is planted into the members' processes, alone, and the campaign must show it.

cd tests && python -m faults.proof --rounds 4 --out DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from explorer.flaws import Flaw

from faults.campaign import Campaign, Verdict, versions
from faults.directed import PLANS, directed
from faults.mistakes import FLAWS


def caught(flaw: Flaw, said: Verdict) -> bool:
    """Whether a round showed the mistake, by a promise that it breaks."""
    return any(promise in flaw.promises for promise, _ in said["violations"])


def table(verdicts: list[Verdict]) -> str:
    """What was found of each mistake, and where nothing was planted, as Markdown."""
    rows = ["| mistake | in | played | found by | in rounds |", "|---|---|---|---|---|"]
    for flaw in FLAWS:
        played = [said for said in verdicts if said["flaw"] == flaw.name]
        found = [said for said in played if caught(flaw, said)]
        promises = sorted({promise for said in found for promise, _ in said["violations"] if promise in flaw.promises})
        where = ", ".join(sorted({module.removeprefix("psbarrier.") for module, _, _ in flaw.changes}))
        rows.append(
            f"| {flaw.name} | `{where}` | {flaw.theme} | {', '.join(promises)} | {len(found)} of {len(played)} |"
        )
    sound = [said for said in verdicts if not said["flaw"]]
    broken = sum(bool(said["violations"]) for said in sound)
    rows.append(f"| none | | each of the {len(PLANS)} | | {broken} of {len(sound)} |")
    return "\n".join(rows)


@click.command()
@click.option("--rounds", type=int, default=4, show_default=True, help="How often each is played.")
@click.option("--parallel", type=int, default=2, show_default=True, help="How many rounds are played side by side.")
@click.option("--flaw", "names", multiple=True, help="Plant only this one; repeatable.")
@click.option("--sound/--no-sound", default=True, help="Play each plan without a mistake, too.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the verdicts.")
def main(rounds: int, parallel: int, names: tuple[str, ...], sound: bool, out: Path) -> None:
    """Plant each mistake, and print which were found. Exits 1 when one was not, or when something else was."""
    flaws = [flaw for flaw in FLAWS if not names or flaw.name in names]
    plans = [directed(flaw.theme, number, flaw.name) for flaw in flaws for number in range(rounds)]
    if sound:
        themes = [theme for theme in PLANS if not names or any(flaw.theme == theme for flaw in flaws)]
        plans += [directed(theme, 100 * index) for index, theme in enumerate(themes)]
    verdicts = list(Campaign(out, parallel, click.echo).play(plans))
    click.echo(f"\n{versions()}\n\n{table(verdicts)}")
    missed = [flaw for flaw in flaws if not any(said["flaw"] == flaw.name and caught(flaw, said) for said in verdicts)]
    sys.exit(bool(missed) or any(said["violations"] for said in verdicts if not said["flaw"]))


if __name__ == "__main__":
    main()
