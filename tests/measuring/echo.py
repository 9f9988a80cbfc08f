"""A party that does what its arguments say: wait, say something else, end, or do nothing for ever."""

from __future__ import annotations

import sys
import time

from benchmarks import party


def main(behaviour: str) -> None:
    """One of a group."""
    if behaviour == "end":
        raise SystemExit("no etcd there")
    if behaviour == "hang":
        time.sleep(600)
    party.perform({"nap": lambda: time.sleep(0.05)})


if __name__ == "__main__":
    main(sys.argv[1])
