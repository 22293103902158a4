"""The text of a scrape: merged families as Prometheus' text format 0.0.4 and as OpenMetrics 1.0.

Sample lines are the same in both and are kept from scrape to scrape: only a series whose values changed is written
again. Families and series stand in the order of their names and labels. One thread at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from busmon.registry.collection import Collection, MergedFamily, Series, Snapshot
from busmon.registry.numbers import go_float

Header = Callable[[MergedFamily], str]

_LABEL_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass(slots=True)
class _Body:
    """The sample lines of one family, by series and joined."""

    lines: dict[Series, str] = field(default_factory=dict)
    text: str = ""


class Exposition:
    """Scrapes one registry directory."""

    def __init__(self, registry_dir: Path) -> None:
        self._collection = Collection(registry_dir)
        self._generation = 0
        self._written: list[float | None] = []
        self._bodies: dict[str, _Body] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """The files that aren't served, or only in part, with the reason, as of the last collection."""
        return self._collection.skipped

    @property
    def series(self) -> dict[str, int]:
        """How many series each family has, as of the last collection."""
        return Snapshot(self._collection.families, self._collection.values).series

    def collect(self) -> Snapshot:
        """Read the files and merge them, to be asked for figures."""
        self._collection.collect()
        return Snapshot(self._collection.families, self._collection.values)

    def text(self) -> bytes:
        """A scrape in the text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
        return self._scrape(_text_header)

    def openmetrics(self) -> bytes:
        """A scrape in OpenMetrics 1.0.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), without `# EOF`."""
        return self._scrape(_openmetrics_header)

    def _scrape(self, header: Header) -> bytes:
        self._collection.collect()
        self._write_changed()
        families = self._collection.families
        texts = ((families[name], self._bodies[name].text) for name in sorted(families) if name in self._bodies)
        return "".join(header(family) + text for family, text in texts if text).encode()

    def _write_changed(self) -> None:
        stale: set[str] = set()
        for series in self._changed():
            body = self._bodies.setdefault(series.family.name, _Body())
            body.lines[series] = "".join(_lines(series, self._collection.values))
            stale.add(series.family.name)
        for name in stale:
            family, body = self._collection.families[name], self._bodies[name]
            body.text = "".join(body.lines[family.series[key]] for key in sorted(family.series))
        self._written = self._collection.values

    def _changed(self) -> Mapping[Series, None]:
        """The series with a value that isn't the one written, each once."""
        if self._generation != self._collection.generation:
            self._generation, self._written, self._bodies = self._collection.generation, [], {}
        rows, values = self._collection.rows, self._collection.values
        known = zip(self._written, values, strict=False)
        changed = [number for number, (was, value) in enumerate(known) if was != value]
        changed.extend(range(max(1, len(self._written)), len(values)))
        return dict.fromkeys(rows[number].series for number in changed)


def _lines(series: Series, values: list[float | None]) -> Iterator[str]:
    labels = ",".join(f'{name}="{text.translate(_LABEL_ESCAPES)}"' for name, text in sorted(series.labels.items()))
    braced = f"{{{labels}}}" if labels else ""
    for row in series.rows.values():
        value = values[row.number]
        if row.bound is None and value is not None:
            yield f"{row.sample_name}{braced} {go_float(value)}\n"
    yield from _buckets(series, f"{labels}," if labels else "", braced, values)


def _buckets(series: Series, labels: str, braced: str, values: list[float | None]) -> Iterator[str]:
    """A histogram's buckets, cumulative, and the count that they add up to."""
    count = 0.0
    buckets = sorted((row.bound, row.number) for row in series.rows.values() if row.bound is not None)
    for bound, number in buckets:
        count += values[number] or 0.0
        yield f'{series.family.name}_bucket{{{labels}le="{go_float(bound)}"}} {go_float(count)}\n'
    if buckets:
        yield f"{series.family.name}_count{braced} {go_float(count)}\n"


def _text_header(family: MergedFamily) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"# HELP {name} {family.help.translate(_HELP_ESCAPES)}\n# TYPE {name} {family.type}\n"


def _openmetrics_header(family: MergedFamily) -> str:
    help_ = family.help.translate(_LABEL_ESCAPES)
    return f"# HELP {family.name} {help_}\n# TYPE {family.name} {family.type}\n"
