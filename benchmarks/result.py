"""What a benchmark found: samples of one quantity, under one name, with the parameters that they were taken at."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from attrs import asdict, field, frozen

Parameters = dict[str, int | float | str]


def _parameters(given: Mapping[str, int | float | str]) -> Parameters:
    return dict(given)


def _samples(given: Iterable[float]) -> tuple[float, ...]:
    return tuple(given)


@frozen
class Result:
    """Samples of one quantity. `name` is the contestant's, or what was measured; `unit` is "s", "MB", "requests", …"""

    name: str
    parameters: Parameters = field(converter=_parameters)
    unit: str
    samples: tuple[float, ...] = field(converter=_samples)

    @samples.validator
    def _check(self, _: object, samples: tuple[float, ...]) -> None:
        if not samples:
            raise ValueError(f"{self.name} at {self.parameters} has no samples")

    @property
    def median(self) -> float:
        """Half of the samples are not above it."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The lower and the upper quartile; the only sample twice where there is but one."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        lower, _, upper = statistics.quantiles(self.samples, n=4, method="inclusive")
        return lower, upper

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; median and spread are for whoever reads the file, and are computed anew when it is loaded."""
        lower, upper = self.spread
        return {**asdict(self), "median": self.median, "spread": [lower, upper]}


def _results(given: Iterable[Result]) -> tuple[Result, ...]:
    return tuple(given)


@frozen
class Report:
    """All results of one run of a benchmark, on one machine.

    `axis` is the parameter that a plot has on its x axis; None where the results are bars side by side. `left_out` says of
    each contestant that did not take part why.
    """

    benchmark: str
    title: str
    results: tuple[Result, ...] = field(converter=_results)
    machine: dict[str, Any]
    axis: str | None = None
    left_out: dict[str, str] = field(factory=dict)

    def names(self) -> list[str]:
        """Each name once, in the order of their first results."""
        return list(dict.fromkeys(result.name for result in self.results))

    def find(self, name: str, **parameters: int | float | str) -> Result | None:
        """The first result of that name that was taken at those parameters, among others."""
        fits = (r for r in self.results if r.name == name and parameters.items() <= r.parameters.items())
        return next(fits, None)

    def ratio(self, name: str, to: str, **parameters: int | float | str) -> float | None:
        """How many times larger the median of `name` is than that of `to`; None where one of them did not take part."""
        one, other = self.find(name, **parameters), self.find(to, **parameters)
        return None if one is None or other is None else one.median / other.median

    def dumps(self) -> str:
        """As JSON."""
        value = {**asdict(self, recurse=False), "results": [result.as_dict() for result in self.results]}
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

    def save(self, folder: Path) -> Path:
        """Write it as `folder`/BENCHMARK.json, and return the path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        path.write_text(self.dumps(), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        value = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**value, "results": [_result(entry) for entry in value["results"]]})


def _result(entry: Mapping[str, Any]) -> Result:
    return Result(entry["name"], entry["parameters"], entry["unit"], entry["samples"])
