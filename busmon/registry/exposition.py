"""The text of a scrape: merged families as Prometheus' text format 0.0.4 and as OpenMetrics 1.0.

Sample lines are the same in both, exemplars apart, and are kept from scrape to scrape: only a series whose values
changed is written again, and only a family with such a series joined again. Families and series stand in the order of
their names and labels. One thread at a time.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from operator import attrgetter
from pathlib import Path

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import SUMMARY
from busmon.registry.collection import Collection as Merged
from busmon.registry.lifetimes import Lifetimes
from busmon.registry.lines import openmetrics_header, quantile_lines, text_header
from busmon.registry.merged import MergedFamily, Series
from busmon.registry.quantiles import SeriesName
from busmon.registry.rules import Rules
from busmon.registry.served_exemplars import ServedExemplars, exemplified
from busmon.registry.sketch import WINDOW
from busmon.registry.snapshot import Snapshot

Header = Callable[[str, str, str], bytes]

_by_labels = attrgetter("labels")


class _Body:
    """The sample lines of one family.

    Attributes:
        lines: of each series, by its place in the order of labels; none of a hidden one.
        text: all lines.
    """

    __slots__ = ("lines", "text")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.text = b""

    def admit(self, family: MergedFamily) -> None:
        """Give new series their places."""
        if len(self.lines) == len(family.series):
            return
        for series in islice(family.series.values(), len(self.lines), None):
            series.place = len(self.lines)
            self.lines.append(b"")
        order = sorted(family.series.values(), key=_by_labels)
        self.lines = [self.lines[series.place] for series in order]
        for place, series in enumerate(order):
            series.place = place


class Exposition:
    """Scrapes one registry directory.

    Args:
        registry_dir: where the files are.
        catalogue: says which series hide and which quantiles are shown; without it, none.
        clock: tells seconds since the epoch.
    """

    def __init__(
        self, registry_dir: Path, catalogue: Catalogue | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._merged = Merged(registry_dir)
        self._rules = Rules(registry_dir, catalogue)
        self._clock = clock
        self._lifetimes = Lifetimes()
        self._exemplars = ServedExemplars(registry_dir)
        self._bodies: dict[MergedFamily, _Body] = {}
        self._generation = self._merged.generation
        self._step = 0.0

    @property
    def skipped(self) -> dict[str, str]:
        """The files that aren't served, or only in part, with the reason, as of the last collection."""
        return {**self._merged.skipped, **self._exemplars.skipped, **self._rules.skipped}

    @property
    def series(self) -> dict[str, int]:
        """How many series each family shows, as of the last collection."""
        families = self._merged.families.items()
        return {name: sum(not series.hidden for series in family.series.values()) for name, family in families}

    def collect(self) -> Snapshot:
        """Read the files and merge them, to be asked for figures."""
        self._rules.follow()
        now, ttls = self._clock(), self._rules.ttls
        snapshot = self._merged.collect(self._rules.timed)
        if self._generation != self._merged.generation:
            self._generation, self._bodies, self._lifetimes = self._merged.generation, {}, Lifetimes()
        self._lifetimes.hide(self._merged.families, ttls, now)
        self._age_quantiles(now)
        return snapshot

    def text(self, names: Collection[str] = ()) -> bytes:
        """A scrape in the text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).

        Args:
            names: of families, or of samples as exposed: only these; all without any.
        """
        self.collect()
        return b"".join(self._pieces(text_header, lambda family: self._body(family).text, names))

    def openmetrics(self, names: Collection[str] = ()) -> bytes:
        """A scrape in OpenMetrics 1.0.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), without `# EOF`.

        Args:
            names: as for `text`.
        """
        self.collect()
        self._exemplars.read()
        return b"".join(self._pieces(openmetrics_header, self._exemplified, names))

    def _age_quantiles(self, now: float) -> None:
        """Have the quantiles written again that have other bins, or all of them where the window moved on."""
        families, quantiles = self._merged.families, self._merged.quantiles
        if WINDOW.start(now) != self._step:
            self._step = WINDOW.start(now)
            for name in self._rules.quantiles.keys() & families.keys():
                families[name].stale.update(families[name].series.values())
        for name, labels in quantiles.stale:
            if name in families and (series := families[name].series.get(labels)):
                series.family.stale.add(series)
        quantiles.stale.clear()

    def _pieces(
        self, header: Header, text_of: Callable[[MergedFamily], bytes], names: Collection[str]
    ) -> Iterator[bytes]:
        """Headers and sample lines, for the one join of a scrape: each further copy would take all its size again."""
        for name, family in sorted(self._merged.families.items()):
            if not names or name in names or any(wanted.startswith(f"{name}_") for wanted in names):
                text = _only(text_of(family), family, names)
                if text:
                    yield header(name, family.type, family.help)
                    yield text

    def _body(self, family: MergedFamily) -> _Body:
        body = self._bodies.get(family)
        if body is None:
            body = self._bodies[family] = _Body()
        if family.stale:
            body.admit(family)
            self._write_stale(family, body.lines)
            body.text = b""  # before the new one is made, so that both never take memory at once
            body.text = b"".join(body.lines)
        return body

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

    def _with_quantiles(self, series: Series, quantiles: Iterable[float], lines: bytes) -> bytes:
        if not lines:
            return b""
        name = SeriesName(series.family.name, series.labels)
        return quantile_lines(*name, self._merged.quantiles.of(name, quantiles, self._step)) + lines

    def _exemplified(self, family: MergedFamily) -> bytes:
        """The family's sample lines with exemplars, as OpenMetrics has them."""
        body, exemplars = self._body(family), self._exemplars.of(family.name)
        if not exemplars:
            return body.text
        lines = list(body.lines)
        for labels in exemplars.keys() & family.series.keys():
            series = family.series[labels]
            lines[series.place] = exemplified(series, lines[series.place], exemplars[labels])
        return b"".join(lines)


def _only(text: bytes, family: MergedFamily, names: Collection[str]) -> bytes:
    """The sample lines that have one of these names, or all where the family is named, or no name at all is."""
    if not names or family.name in names:
        return text
    wanted = tuple(name.encode() + end for name in names for end in (b"{", b" "))
    return b"".join([line + b"\n" for line in text.split(b"\n") if line.startswith(wanted)])
