"""The text of a scrape: merged families as Prometheus' text format 0.0.4 and as OpenMetrics 1.0.

Sample lines are the same in both, exemplars apart, and are kept from scrape to scrape: only a series whose values
changed is written again. Families and series are sorted by their names and labels. One thread at a time.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import SUMMARY
from busmon.registry.scrape import lifetimes
from busmon.registry.scrape.collection import Collection as Merged
from busmon.registry.scrape.followed_families import FollowedFamilies
from busmon.registry.scrape.lines import openmetrics_header, quantile_lines, text_header
from busmon.registry.scrape.merged import MergedFamily, MergedSeries
from busmon.registry.scrape.quantiles import SeriesName
from busmon.registry.scrape.served_exemplars import ServedExemplars, add_exemplars
from busmon.registry.scrape.snapshot import RegistrySnapshot
from busmon.registry.series.sketch import WINDOW

Header = Callable[[str, str, str], bytes]

_by_labels = attrgetter("labels")


class Exposition:
    """The scrapes of one registry directory.

    Args:
        registry_dir: where the files are.
        catalogue: says which series hide and which quantiles are shown; without it, none.
        clock: tells seconds since the epoch.
        ahead_seconds: by how much this clock is ahead of the one that a writer's times are of, where they differ.
        note_begin: is called before all files are read into empty tables, as at first and where a file was replaced.
    """

    def __init__(
        self,
        registry_dir: Path,
        catalogue: Catalogue | None = None,
        clock: Callable[[], float] = time.time,
        ahead_seconds: Mapping[str, float] = MappingProxyType({}),
        note_begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._ahead_seconds = ahead_seconds
        self._merged = Merged(registry_dir, ahead_seconds, note_begin)
        self._rules = FollowedFamilies(registry_dir, catalogue)
        self._clock = clock
        self._exemplars = ServedExemplars(registry_dir)
        self._now = 0.0
        self._steps: frozenset[float] = frozenset()

    @property
    def skipped(self) -> dict[str, str]:
        """Return the files that aren't served, or only in part, with the reason, as of the last collection."""
        return {**self._merged.skipped, **self._exemplars.skipped, **self._rules.skipped}

    @property
    def series(self) -> dict[str, int]:
        """Return how many series each family shows, as of the last collection."""
        return {name: len(family.series) - family.hidden for name, family in self._merged.families.items()}

    @property
    def snapshot(self) -> RegistrySnapshot:
        """Return the last collection, to be asked for figures."""
        return RegistrySnapshot(self._merged.families, self._merged.columns)

    def collect(self) -> RegistrySnapshot:
        """Read the files and merge them, to be asked for figures."""
        self._rules.follow()
        now, ttls = self._clock(), self._rules.ttls
        snapshot = self._merged.collect(self._rules.timed)
        lifetimes.hide(self._merged.families, ttls, now)
        self._age_quantiles(now)
        return snapshot

    def text(self, names: Collection[str] = ()) -> bytes:
        """Return a scrape in the text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).

        Args:
            names: of families, or of samples as exposed: only these; all without any.
        """
        self.collect()
        return self._join(text_header, self._lines_of, names)

    def openmetrics(self, names: Collection[str] = ()) -> bytes:
        """Write a scrape in OpenMetrics 1.0.0, without `# EOF` (https://prometheus.io/docs/specs/om/open_metrics_spec/).

        Args:
            names: as for `text`.
        """
        self.collect()
        self._exemplars.read()
        return self._join(openmetrics_header, self._add_exemplars, names)

    def _age_quantiles(self, now: float) -> None:
        """Have the quantiles written again that have other bins, or all of them where the window moved on."""
        families, quantiles = self._merged.families, self._merged.quantiles
        self._now, steps = now, frozenset(WINDOW.start(now - ahead) for ahead in (0.0, *self._ahead_seconds.values()))
        if steps != self._steps:
            self._steps = steps
            for name in self._rules.quantiles.keys() & families.keys():
                families[name].stale.update(families[name].series.values())
        for name, labels in quantiles.stale:
            if name in families and (series := families[name].series.get(labels)):
                families[name].stale.add(series)
        quantiles.stale.clear()

    def _join(self, header: Header, lines_of: Callable[[MergedFamily], list[bytes]], names: Collection[str]) -> bytes:
        """Join all headers and lines at once: a copy of each family's text would take a scrape's size again."""
        pieces: list[bytes] = []
        for name, family in sorted(self._merged.families.items()):
            if not names or name in names or any(wanted.startswith(f"{name}_") for wanted in names):
                lines = lines_of(family) if not names or name in names else _only(lines_of(family), names)
                if any(lines):
                    pieces.append(header(name, family.type, family.help))
                    pieces += lines
        return b"".join(pieces)

    def _lines_of(self, family: MergedFamily) -> list[bytes]:
        """Return the lines of each series, in the order of their labels; none of a hidden one."""
        lines = family.lines
        if family.stale:
            if len(lines) < len(family.series):
                lines[:] = _admit(family, lines)
            self._write_stale(family, lines)
        return lines

    def _write_stale(self, family: MergedFamily, lines: list[bytes]) -> None:
        values = self._merged.columns[family.column].values
        quantiles = self._rules.quantiles.get(family.name, ()) if family.type == SUMMARY else ()
        for series in family.stale:
            layout = series.layout
            if series.hidden:
                lines[series.place] = b""
            elif layout.is_line:
                lines[series.place] = layout.write_line(series.labels, values[series.first])
            else:
                lines[series.place] = layout.write(series.labels, [values[row] for row in series.rows])
        if quantiles:
            for series in family.stale:
                lines[series.place] = self._with_quantiles(series, quantiles, lines[series.place])
        family.stale.clear()

    def _with_quantiles(self, series: MergedSeries, quantiles: Iterable[float], lines: bytes) -> bytes:
        if not lines:
            return b""
        name = SeriesName(series.layout.family, series.labels)
        return quantile_lines(*name, self._merged.quantiles.of(name, quantiles, self._now)) + lines

    def _add_exemplars(self, family: MergedFamily) -> list[bytes]:
        """Return the same with exemplars, as OpenMetrics has them."""
        lines, exemplars = self._lines_of(family), self._exemplars.of(family.name)
        if exemplars:
            lines = list(lines)
        for labels in exemplars.keys() & family.series.keys():
            place = family.series[labels].place
            lines[place] = add_exemplars(family.series[labels], lines[place], exemplars[labels])
        return lines


def _admit(family: MergedFamily, lines: list[bytes]) -> list[bytes]:
    """Return the lines with room for the family's new series, which get their places."""
    for place, series in enumerate(islice(family.series.values(), len(lines), None), len(lines)):
        series.place = place
    lines.extend([b""] * (len(family.series) - len(lines)))
    ordered = sorted(family.series.values(), key=_by_labels)
    admitted = [lines[series.place] for series in ordered]
    for place, series in enumerate(ordered):
        series.place = place
    return admitted


def _only(lines: list[bytes], names: Collection[str]) -> list[bytes]:
    """Return the single sample lines that have one of these names."""
    wanted = tuple(name.encode() + end for name in names for end in (b"{", b" "))
    return [line + b"\n" for line in b"".join(lines).split(b"\n") if line.startswith(wanted)]
