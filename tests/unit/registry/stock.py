"""prometheus_client itself: its files, written by its own code, and its collector, which is the oracle of ours."""

import math
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from .registries import Series, parsed

Figures = dict[Series, str]


class Family(NamedTuple):
    """A family as the files have it; `column` is the first part of their names."""

    name: str
    column: str
    labelnames: tuple[str, ...]
    bounds: tuple[str, ...] = ()

    @property
    def parts(self) -> list[tuple[str, dict[str, str]]]:
        """The entries of one series: sample name, and labels in addition to its own."""
        if self.column == "histogram":
            buckets = [(f"{self.name}_bucket", {"le": bound}) for bound in (*self.bounds, "+Inf")]
            return [(f"{self.name}_sum", {}), *buckets]
        if self.column == "summary":
            return [(f"{self.name}_count", {}), (f"{self.name}_sum", {})]
        return [(f"{self.name}_total" if self.column == "counter" else self.name, {})]


class Entry(NamedTuple):
    """One series of one file, with a value for each of its parts."""

    family: Family
    labelvalues: tuple[str, ...]
    values: tuple[float, ...]
    at: float


FAMILIES = [
    Family("hits", "counter", ()),
    Family("tasks", "counter", ("b", "a")),
    Family("waits", "histogram", ("zone",), ("0.5", "1.0", "1e+06")),
    Family("steps", "histogram", (), ()),
    Family("sizes", "summary", ("le", "kind")),
    Family("depth", "gauge_mostrecent", ("queue",)),
    Family("load", "gauge_livemostrecent", ()),
    Family("agents", "gauge_sum", ("type",)),
    Family("threads", "gauge_livesum", ()),
    Family("free", "gauge_min", ()),
    Family("idle", "gauge_livemin", ("a",)),
    Family("used", "gauge_max", ("a",)),
    Family("busy", "gauge_livemax", ()),
    Family("rss", "gauge_all", ("a",)),
    Family("temperature", "gauge_liveall", ()),
]
HELP = 'What it is: "a\\b"\nand more'

Content = dict[str, list[Entry]]

writers = st.sampled_from(["7", "12", "shard0", "shard1"])
labelvalues = st.sampled_from(["", "x", 'a"b', "a\\b", "a\nb", "\\n", "é ☂", "{,}=", " "])
amounts = st.integers(0, 2**30).map(lambda halves: halves / 2)
readings = st.integers(-(2**30), 2**30).map(lambda halves: halves / 2)
any_reading = readings | st.sampled_from([math.inf, -math.inf, math.nan, 1e300, 5e-324, -0.0, 1e6, 999999.5])


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Draw the contents of a directory: by file name, series with values."""
    content: Content = {}
    moments = iter(draw(st.permutations([5.0 + i for i in range(24)])))
    for _ in range(draw(st.integers(0, 12))):
        family, writer = draw(st.sampled_from(FAMILIES)), draw(writers)
        values = amounts if family.column == "counter" else st.integers(0, 2**30)
        if family.column.startswith("gauge"):
            # Over minimum and maximum, what NaN is depends on the order of the files, in stock as in ours.
            values = readings if family.column.endswith(("min", "max")) else any_reading
        entry = Entry(
            family,
            tuple(draw(labelvalues) for _ in family.labelnames),
            tuple(draw(values) for _ in family.parts),
            next(moments),
        )
        content.setdefault(f"{family.column}_{writer}.db", []).append(entry)
    return content


def write(directory: Path, content: Content) -> None:
    """Put the entries into their files, as stock processes do; those that stand there stay."""
    for name, entries in content.items():
        file = MmapedDict(str(directory / name))  # type: ignore[no-untyped-call]
        for entry in entries:
            labels = dict(zip(entry.family.labelnames, entry.labelvalues, strict=True))
            for (sample_name, more), value in zip(entry.family.parts, entry.values, strict=True):
                stated = labels | more
                key = mmap_key(entry.family.name, sample_name, [*stated], [*stated.values()], HELP)
                file.write_value(key, value, entry.at)  # type: ignore[no-untyped-call]
        file.close()  # type: ignore[no-untyped-call]


def oracle(directory: Path) -> Figures:
    """Collect the directory with prometheus_client's collector."""
    return figures(generate_latest(_stock_registry(directory)))


def openmetrics_oracle(directory: Path) -> Figures:
    """The same by way of OpenMetrics."""
    return openmetrics_figures(generate_openmetrics(_stock_registry(directory)))  # type: ignore[no-untyped-call]


def figures(text: bytes) -> Figures:
    """The samples of a scrape; NaN equals itself."""
    return {series: repr(value + 0.0) for series, value in parsed(text).items()}


def openmetrics_figures(text: bytes) -> Figures:
    """The samples of a scrape in OpenMetrics."""
    found: Figures = {}
    for family in parse_openmetrics(text.decode()):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            series = (sample.name, frozenset(sample.labels.items()))
            assert series not in found
            found[series] = repr(float(sample.value) + 0.0)
    return found


def _stock_registry(directory: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    return registry
