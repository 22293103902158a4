"""What all value files say together: one row per entry that a scrape distinguishes, merged over the files.

Keys are parsed once, when they first appear; a collection after that adds numbers at known places. A family that two
files give different types is served as the first file in the order of names has it; the other file is named. One
thread.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import orjson

from busmon.catalogue import naming
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY
from busmon.registry.reader import Reader, ValueTable

PARTS: Mapping[str, tuple[str, ...]] = {
    COUNTER: ("_total",),
    GAUGE: ("",),
    HISTOGRAM: ("_bucket", "_sum"),
    SUMMARY: ("_count", "_sum"),
}
"""What prometheus_client's multiprocess files have of each type, by what follows the family's name."""

_NOWHERE = 0
"""The row that takes what isn't served."""


@dataclass(slots=True, eq=False)
class MergedFamily:
    """One metric family of the scrape.

    Attributes:
        name: without a counter's `_total`.
        column: of the files that it stands in, such as `counter` or `gauge_sum`.
        series: by sorted label items, in the order of their first appearance.
    """

    name: str
    column: str
    help: str
    series: dict[tuple[tuple[str, str], ...], "Series"] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """As exposed."""
        return self.column.partition("_")[0]


@dataclass(slots=True, eq=False)
class Series:
    """The rows of one family that have the same labels, `le` apart; by sample name and bound."""

    family: MergedFamily
    labels: dict[str, str]
    rows: dict[tuple[str, float | None], "Row"] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Row:
    """One entry of the files, merged: a sample, or a bucket by itself (not cumulative).

    Attributes:
        number: its place in `Collection.values`.
        sample_name: as exposed, for example `task_duration_seconds_bucket`.
        bound: a bucket's upper bound; None for anything else.
    """

    number: int
    series: Series
    sample_name: str
    bound: float | None = None


class Collection:
    """The merged rows of a registry directory.

    Attributes:
        families: by name.
        values: by row number; None for a gauge that has no value.
        rows: by row number; the first is no entry.
        generation: changes when rows are numbered anew, because a file went away.
    """

    def __init__(self, registry_dir: Path) -> None:
        self._reader = Reader(registry_dir)
        self.generation = 0
        self._reset()

    def _reset(self) -> None:
        self.generation += 1
        self.families: dict[str, MergedFamily] = {}
        self.values: list[float | None] = [None]
        self.rows = [Row(_NOWHERE, Series(MergedFamily("", "", ""), {}), "")]
        self._numbers: dict[tuple[str, bytes], int] = {}
        self._places: dict[str, list[int]] = {}
        self._indexed: dict[str, ValueTable] = {}
        self._faults: dict[str, str] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """The files that aren't served, or only in part, as of the last collection."""
        return {**self._faults, **self._reader.skipped}

    def collect(self) -> None:
        """Read all files and merge them."""
        self._reader.read()
        tables = self._reader.tables
        if any(tables.get(name) is not table for name, table in self._indexed.items()):
            self._reset()
        for name, table in tables.items():
            self._index(name, table)
        self.values = self._merged(tables)

    # -- keys to rows ---------------------------------------------------------------------------------------------

    def _index(self, name: str, table: ValueTable) -> None:
        self._indexed[name] = table
        places = self._places.setdefault(name, [])
        suffix = table.writer if table.column in {"gauge_all", "gauge_liveall"} else ""
        for key in table.keys[len(places) :]:
            number = self._numbers.get((table.column + suffix, key))
            if number is None:
                number = self._numbers[table.column + suffix, key] = self._add(name, table.column, key, suffix)
            places.append(number)

    def _add(self, file: str, column: str, key: bytes, pid: str) -> int:
        """The number of the row that an entry adds to: one that stands in other files, or under another help, too."""
        try:
            metric_name, sample_name, labels, help_ = _parsed(column.partition("_")[0], key)
        except ValueError as error:
            self._faults[file] = f"the key {key[:80]!r}: {error}"
            return _NOWHERE
        family = self.families.setdefault(metric_name, MergedFamily(metric_name, column, help_))
        if family.column != column:
            self._faults[file] = f"{metric_name!r} is a {column} here and a {family.column} in another file"
            return _NOWHERE
        bound = float(labels.pop("le")) if family.type == HISTOGRAM and sample_name.endswith("_bucket") else None
        labels |= {"pid": pid} if pid else {}
        series = family.series.setdefault(tuple(sorted(labels.items())), Series(family, labels))
        row = series.rows.setdefault((sample_name, bound), Row(len(self.rows), series, sample_name, bound))
        if row.number == len(self.rows):
            self.rows.append(row)
        return row.number

    # -- numbers --------------------------------------------------------------------------------------------------

    def _merged(self, tables: Mapping[str, ValueTable]) -> list[float | None]:
        values: list[float | None] = [0.0] * len(self.rows)
        gauges: dict[str, list[tuple[str, ValueTable]]] = {}
        for name, table in tables.items():
            if table.column.startswith("gauge"):
                gauges.setdefault(table.column, []).append((name, table))
                continue
            for number, value in zip(self._places[name], table.values, strict=True):
                values[number] += value  # type: ignore[operator]
        for column, named in gauges.items():
            self._merge_gauges(column, named, values)
        values[_NOWHERE] = None
        return values

    def _merge_gauges(self, column: str, named: list[tuple[str, ValueTable]], values: list[float | None]) -> None:
        """Merge as the column's mode says; an entry that was never set counts for nothing."""
        mode = column.removeprefix("gauge_").removeprefix("live")
        times: dict[int, float] = {}
        for name, table in named:
            always_set = not table.writer.startswith("shard") and mode != "mostrecent"
            for number, value, at in zip(self._places[name], table.values, table.times, strict=True):
                if not at and not always_set:
                    times.setdefault(number, -inf)
                elif times.get(number, -inf) == -inf:
                    times[number], values[number] = at, value
                else:
                    values[number] = _merge(mode, values[number], value, later=at > times[number])
                    times[number] = max(at, times[number])
        for number, at in times.items():
            if at == -inf:
                values[number] = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One collection, to be asked for figures."""

    families: Mapping[str, MergedFamily]
    values: list[float | None]

    def value(self, sample_name: str, **labels: str) -> float:
        """The sum of all series of an exposed sample name that have these labels; 0.0 where there is none."""
        return sum(value for row, value in self._rows(sample_name) if _matches(row, labels))

    def by_label(self, sample_name: str, label: str) -> dict[str, float]:
        """The sums of an exposed sample name's series by one label's values."""
        sums: dict[str, float] = {}
        for row, value in self._rows(sample_name):
            labelvalue = row.series.labels.get(label, "")
            sums[labelvalue] = sums.get(labelvalue, 0.0) + value
        return sums

    def histogram(self, family_name: str, **labels: str) -> list[tuple[float, float]]:
        """Upper bounds with cumulative counts, ascending, summed over all series that have these labels."""
        counts: dict[float, float] = {}
        for row, value in self._rows(f"{family_name}_bucket"):
            if row.bound is not None and _matches(row, labels):
                counts[row.bound] = counts.get(row.bound, 0.0) + value
        bounds = sorted(counts)
        return list(zip(bounds, accumulate(counts[bound] for bound in bounds), strict=True))

    @property
    def series(self) -> dict[str, int]:
        """How many series each family has."""
        return {name: len(family.series) for name, family in self.families.items()}

    def _rows(self, sample_name: str) -> Iterator[tuple[Row, float]]:
        """A family's rows of one exposed name; a histogram's `_count` is all of its buckets."""
        family_name, _, suffix = sample_name.rpartition("_")
        family = self.families.get(sample_name) or self.families.get(family_name)
        if family is None:
            return
        wanted = f"{family_name}_bucket" if family.type == "histogram" and suffix == "count" else sample_name
        for series in family.series.values():
            for row in series.rows.values():
                value = self.values[row.number]
                if row.sample_name == wanted and value is not None:
                    yield row, value


def _merge(mode: str, current: float | None, value: float, *, later: bool) -> float:
    if current is None:
        return value
    if mode == "sum":
        return current + value
    if mode == "min":
        return min(current, value)
    if mode == "max":
        return max(current, value)
    return value if later else current


def _matches(row: Row, labels: Mapping[str, str]) -> bool:
    return all(row.series.labels.get(name) == value for name, value in labels.items())


def _parsed(type_: str, key: bytes) -> tuple[str, str, dict[str, str], str]:
    """The parts of prometheus_client's key.

    Raises:
        ValueError: it has another form, or names that would spoil the whole scrape.
    """
    parts: Any = orjson.loads(key)
    if type_ not in PARTS or not isinstance(parts, list) or len(parts) != 4:  # noqa: PLR2004
        raise ValueError("it isn't prometheus_client's")
    metric_name, sample_name, labels, help_ = parts
    texts = [metric_name, sample_name, help_, *labels, *labels.values()] if isinstance(labels, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("it isn't prometheus_client's")
    if not naming.METRIC_NAME.fullmatch(metric_name) or sample_name not in {
        metric_name + part for part in PARTS[type_]
    }:
        raise ValueError(f"{sample_name!r} is no name of a {type_}")
    if not all(map(naming.LABEL_NAME.fullmatch, labels)):
        raise ValueError("a label's name is no name")
    if sample_name.endswith("_bucket") and type_ == HISTOGRAM and isnan(float(labels.get("le", nan))):
        raise ValueError("its 'le' is no number")
    return metric_name, sample_name, labels, help_
