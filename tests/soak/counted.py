"""The counts that the publishers' records demand, and the differences of a scrape from them, series by series.

Amounts are multiples of a quarter, so sums are exact and compared as such. Pure, but for reading the records.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import orjson

from busmon.catalogue import Catalogue
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, Family
from tests.soak.record import lines
from tests.soak.scrape import Labels, Scrape, labels_of

MEASURED = {"message_latency_seconds", "message_size_bytes"}
"""Families of the platform that the workers measure themselves."""

STEPS = "tasks_processed_total"
"""What every step of an SDK publisher adds 1 to."""


@dataclass(slots=True)
class Expected:
    """The figures that a scrape must show once everything is folded.

    Attributes:
        series: totals of counters, histograms and summaries, by sample name and labels.
        gauges: event time and value of the latest set, by sample name and labels.
        envelopes: how many different ones were confirmed.
        unconfirmed: ids that may or may not have been stored.
        runs: how often a publisher was started.
        lost_steps: runs of an SDK publisher that ended in order, and whose bodies hold other steps than it made.
    """

    series: Counter[tuple[str, Labels]] = field(default_factory=Counter)
    gauges: dict[tuple[str, Labels], tuple[float, float]] = field(default_factory=dict)
    envelopes: int = 0
    unconfirmed: list[str] = field(default_factory=list)
    lost_steps: list[str] = field(default_factory=list)
    runs: int = 0


def read(records: Iterable[Path], catalogue: Catalogue, expected: Expected) -> Expected:
    """Add the records of all publishers to what was expected before."""
    for path in records:
        _read(path, catalogue, expected)
    return expected


def differences(expected: Expected, scrape: Scrape, catalogue: Catalogue) -> Iterator[str]:
    """A line for every series that a scrape shows otherwise."""
    published = {name for name, _ in expected.series}
    shown = {
        key: value
        for key, value in scrape.counters.items()
        if key[0] in published or (value and _is_published(key[0], catalogue))
    }
    for name, labels in sorted(expected.series.keys() | shown.keys()):
        wanted, found = expected.series[name, labels], shown.get((name, labels), 0.0)
        if wanted != found:
            yield f"{name}{dict(labels)}: published {wanted}, scraped {found} ({found - wanted:+})"
    for key, (_, value) in sorted(expected.gauges.items()):
        if scrape.gauges.get(key) != value:
            yield f"{key[0]}{dict(key[1])}: last set to {value}, scraped {scrape.gauges.get(key)}"


def _is_published(sample_name: str, catalogue: Catalogue) -> bool:
    return any(
        sample_name in family.exposed and not family.internal and family.name not in MEASURED
        for family in catalogue.families.values()
    )


def _read(path: Path, catalogue: Catalogue, expected: Expected) -> None:
    unconfirmed: set[str] = set()
    steps: dict[str, float] = {}
    for kind, *fields in lines(path):
        if kind == "intent":
            message_id, source, _, _, body = fields
            unconfirmed.add(message_id)
            steps[source] = steps.get(source, 0.0) + _take(orjson.loads(body), catalogue, expected)
        elif kind == "confirmed":
            unconfirmed.discard(fields[0])
        elif kind == "end" and (held := steps.get(fields[0], 0.0)) != fields[1]:
            expected.lost_steps.append(f"{fields[0]}: made {fields[1]} steps, its envelopes hold {held}")
    expected.unconfirmed.extend(unconfirmed)


def _take(envelope: Mapping[str, Any], catalogue: Catalogue, expected: Expected) -> float:
    """Count what an envelope says; gives the steps that it holds."""
    expected.envelopes += 1
    steps = 0.0
    for sample, labels, cell in _cells(envelope):
        name = sample["name"]
        if name == STEPS:
            steps += cell
        family = catalogue.families.get(name) or Family(name, sample["type"], "")
        if family.type == GAUGE:
            at, value = expected.gauges.get((name, labels), (0.0, 0.0))
            expected.gauges[name, labels] = max((at, value), (sample.get("ts", envelope["ts"]), cell))
        else:
            expected.series.update(dict(_amounts(family, labels, cell)))
    return steps


def _cells(envelope: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Labels, Any]]:
    """Both forms of samples: the sample or table, the labels, and the value."""
    for sample in envelope.get("samples", ()):
        yield sample, labels_of(sample["labels"]), sample["value"]
    for table in envelope.get("tables", ()):
        for *values, cell in table["rows"]:
            yield table, labels_of(dict(zip(table["labels"], values, strict=True))), cell


def _amounts(family: Family, labels: Labels, cell: Any) -> Iterator[tuple[tuple[str, Labels], float]]:
    """List the amounts that a value adds, by series."""
    if family.type == COUNTER:
        yield (family.name, labels), cell
        return
    counts, total = _observed(family, cell)
    yield (f"{family.name}_count", labels), sum(counts.values())
    yield (f"{family.name}_sum", labels), total
    if family.type == HISTOGRAM:
        for bound in (*family.buckets, inf):
            cumulative = sum(count for at_most, count in counts.items() if at_most <= bound)
            yield (f"{family.name}_bucket", tuple(sorted((*labels, ("le", str(bound)))))), cumulative


def _observed(family: Family, cell: Any) -> tuple[Mapping[float, int], float]:
    """How many observations fell under which bound, not cumulated, and their sum."""
    if isinstance(cell, Mapping):
        return {float(bound): count for bound, count in cell["buckets"].items()}, cell["sum"]
    observations = cell if isinstance(cell, list) else [cell]
    bounds = (*family.buckets, inf)
    return Counter(bounds[bisect_left(bounds, value)] for value in observations), sum(observations)
