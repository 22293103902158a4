"""What all value files say together: one row per entry that a scrape distinguishes, merged over the files.

Keys are parsed once, when they first appear; a collection after that adds numbers at known places. A family that two
files give different types is served as the first file in the order of names has it; the other file is named. One
thread.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Any

import orjson

from busmon.registry.reader import Reader, ValueTable

TYPES = frozenset({"counter", "gauge", "histogram", "summary"})
_NOWHERE = 0
"""The row that takes what isn't served."""


@dataclass(slots=True, eq=False)
class MergedFamily:
    """One metric family of the scrape.

    Attributes:
        name: without a counter's `_total`.
        series: by sorted label items, in the order of their first appearance.
    """

    name: str
    type: str
    help: str
    series: dict[tuple[tuple[str, str], ...], "Series"] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Series:
    """The rows of one family that have the same labels, `le` apart."""

    family: MergedFamily
    labels: dict[str, str]
    rows: list["Row"] = field(default_factory=list)


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
        self._identities: dict[str, tuple[int, int]] = {}
        self._faults: dict[str, str] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """The files that aren't served, or only in part, as of the last collection."""
        return {**self._faults, **self._reader.skipped}

    def collect(self) -> None:
        """Read all files and merge them."""
        self._reader.read()
        tables = self._reader.tables
        if any(name not in tables or tables[name].identity != seen for name, seen in self._identities.items()):
            self._reset()
        for name, table in tables.items():
            self._index(name, table)
        self.values = self._merged(tables)

    # -- keys to rows ---------------------------------------------------------------------------------------------

    def _index(self, name: str, table: ValueTable) -> None:
        self._identities[name] = table.identity
        places = self._places.setdefault(name, [])
        suffix = table.writer if table.column in {"gauge_all", "gauge_liveall"} else ""
        for key in table.keys[len(places) :]:
            number = self._numbers.get((table.column + suffix, key))
            if number is None:
                number = self._numbers[table.column + suffix, key] = self._add(name, table.column, key, suffix)
            places.append(number)

    def _add(self, file: str, column: str, key: bytes, pid: str) -> int:
        try:
            metric_name, sample_name, labels, help_ = _parsed(key)
        except ValueError:
            self._faults[file] = f"the key {key[:80]!r} is not prometheus_client's"
            return _NOWHERE
        type_ = column.partition("_")[0]
        if type_ not in TYPES:
            self._faults[file] = f"{type_!r} is no type"
            return _NOWHERE
        family = self.families.setdefault(metric_name, MergedFamily(metric_name, type_, help_))
        if family.type != type_:
            self._faults[file] = f"{metric_name!r} is a {type_} here and a {family.type} in another file"
            return _NOWHERE
        bound = float(labels.pop("le")) if type_ == "histogram" and "le" in labels else None
        labels |= {"pid": pid} if pid else {}
        series = family.series.setdefault(tuple(sorted(labels.items())), Series(family, labels))
        row = Row(len(self.rows), series, sample_name, bound)
        series.rows.append(row)
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
            for row in series.rows:
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


def _parsed(key: bytes) -> tuple[str, str, dict[str, str], str]:
    """The parts of prometheus_client's key.

    Raises:
        ValueError: it has another form.
    """
    parts: Any = orjson.loads(key)
    if not isinstance(parts, list) or len(parts) != 4:  # noqa: PLR2004
        raise ValueError("not a key")
    metric_name, sample_name, labels, help_ = parts
    texts = [metric_name, sample_name, help_, *labels, *labels.values()] if isinstance(labels, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not a key")
    float(labels.get("le", 0))
    return metric_name, sample_name, labels, help_
