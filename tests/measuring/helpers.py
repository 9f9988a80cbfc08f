"""A report to look at."""

from __future__ import annotations

from benchmarks.result import Report, Result


def report() -> Report:
    """Two contestants at two sizes; the second is ten times slower, and a third did not take part."""
    results = [
        Result(name, {"processes": size}, "s", [factor * size * 1e-3 * step for step in (1, 2, 3, 4, 5)])
        for name, factor in (("psbarrier", 1.0), ("other", 10.0))
        for size in (2, 8)
    ]
    return Report(
        benchmark="demo",
        title="A demonstration",
        results=results,
        machine={"cores": 2, "versions": {"etcd": "3.5.1"}},
        axis="processes",
        left_out={"third": "it is not installed"},
    )
