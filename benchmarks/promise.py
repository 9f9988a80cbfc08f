"""What is promised of the figures, and whether they keep it."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from benchmarks import barrier, group_start, table
from benchmarks.result import Report

Reports = Mapping[str, Report]


@frozen
class Promise:
    """A bound for the median of `name` in a report, at some parameters.

    Against others, it is for the ratio to the fastest of them: with `faster`, they take at least `bound` times as long;
    without, `name` takes at most `bound` times as long. Against nobody, it is for the median itself, at most.
    """

    what: str
    benchmark: str
    name: str
    bound: float
    parameters: dict[str, int] = field(factory=dict)
    against: tuple[str, ...] = ()
    faster: bool = True

    def found(self, reports: Reports) -> float | None:
        """The ratio, or the median; None where it was not measured."""
        report = reports.get(self.benchmark)
        own = None if report is None else report.find(self.name, **self.parameters)
        if report is None or own is None:
            return None
        if not self.against:
            return own.median
        others = [found.median for name in self.against if (found := report.find(name, **self.parameters)) is not None]
        if not others:
            return None
        return min(others) / own.median if self.faster else own.median / min(others)

    def kept(self, value: float) -> bool:
        """Whether that is within the bound."""
        return value >= self.bound if self.against and self.faster else value <= self.bound

    def row(self, reports: Reports) -> list[str]:
        """What, what is promised, what was found, and whether that is enough."""
        value = self.found(reports)
        promised = f"at {'least' if self.against and self.faster else 'most'} {self._show(self.bound, reports)}"
        if value is None:
            return [self.what, promised, "not measured", "–"]
        return [self.what, promised, self._show(value, reports), "yes" if self.kept(value) else "**no**"]

    def _show(self, value: float, reports: Reports) -> str:
        if self.against:
            return f"{value:.1f} times" if value >= 10 else f"{value:.2g} times"
        report = reports.get(self.benchmark)
        own = None if report is None else report.find(self.name, **self.parameters)
        return table.tick(value, own.unit if own else "")


def _barriers() -> list[Promise]:
    def one(what: str, size: int, bound: float, to: str, *, faster: bool) -> Promise:
        return Promise(what, "barrier", barrier.OURS, bound, {"processes": size}, (to,), faster)

    kazoo = [
        one(f"a barrier of {size}: kazoo's enter() takes", size, bound, barrier.ENTER, faster=True)
        for size, bound in ((2, 4.0), (8, 4.0), (32, 2.3), (64, 1.7))
    ]
    bare = [
        one(f"a barrier of {size}: of a bare loop it takes", size, 1.3, barrier.BARE, faster=False) for size in (32, 64)
    ]
    return kazoo + bare


def _starts() -> list[Promise]:
    own, bare = group_start.OURS, group_start.BARE
    peers = tuple(c.name for c in group_start.CONTESTANTS if c.backend != "psbarrier" and c.name not in (own, bare))

    def one(what: str, size: int, bound: float, to: tuple[str, ...], *, faster: bool = True) -> Promise:
        return Promise(what, "group_start", own, bound, {"processes": size}, to, faster)

    return [
        *(one(f"a start of {size}: the fastest peer takes", size, 3.0, peers) for size in (32, 64)),
        *(one(f"a start of {size}: of a bare start it takes", size, 1.5, (bare,), faster=False) for size in (32, 64)),
        one("a start of 128: torchrun's c10d takes", 128, 10.0, (group_start.C10D,)),
    ]


def _counts() -> list[Promise]:
    """etcd's counters, at all sizes that are measured."""
    bounds = (("start", 6.0), ("barrier", 2.0))
    return [
        Promise(
            f"{kind} of each of {size:,} members for a {name}",
            "scale-counts",
            f"{name}, {kind}",
            bound,
            {"members": size},
        )
        for size in (1000, 10_000)
        for name, bound in bounds
        for kind in ("requests", "events")
    ]


PROMISES = [
    *_barriers(),
    *_starts(),
    Promise(
        "all others know of a SIGKILL under `psbarrier run`",
        "detection",
        "SIGKILL of the command of psbarrier run",
        0.5,
    ),
    *_counts(),
    Promise("10,000 members have started", "scale", "start", 60.0, {"members": 10_000}),
    Promise(
        "the same for each member, of that at 1,000", "scale-growth", "start", 1.5, {"members": 10000, "before": 1000}
    ),
    Promise("the last of 32 knows the epoch of one that was restarted", "restart", "psbarrier", 1.0, {"members": 32}),
    Promise("import psbarrier", "footprint-import", "import psbarrier", 0.25),
    Promise("memory, beyond a process that imports grpc, MB", "footprint", "memory, MB", 25.0),
    Promise("Python threads, beyond that", "footprint", "Python threads", 4.0),
    Promise("requests of an idle member, a minute", "footprint", "idle requests a minute", 12.1),
]
"""The idle requests include the share of a member in the leader's: 5 a minute for all of the job."""


def markdown(reports: Reports) -> str:
    """All of them as a table."""
    heads = ["", "promised", "found", "kept"]
    return table.markdown_table(heads, [promise.row(reports) for promise in PROMISES])
