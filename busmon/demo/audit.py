"""The audit: what was published against what a scrape shows, series by series, told by sample name.

Pure. Counts must be equal to the last unit; sums of floats, which each side adds in another order, within 1e-9 of each
other.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isclose

import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table
from rich.text import Text

from busmon.catalogue import Family
from busmon.simulator.totals import Series, Totals

RELATIVE_TOLERANCE = 1e-9

ENVELOPES = "busmon_envelopes_consumed_total"

MEASURED = frozenset({"message_latency_seconds", "message_size_bytes"})
"""Families of the platform to which the workers add series of their own, for every envelope."""

_COUNTED = {"counter": ("",), "histogram": ("_count", "_sum"), "summary": ("_count", "_sum")}


@dataclass(frozen=True, slots=True)
class Line:
    """One sample name: its totals over all series on both sides, and the labels of the series that differ."""

    name: str
    series: int
    published: float
    scraped: float
    differing: Sequence[str]

    @property
    def equal(self) -> bool:
        """True if every series is equal."""
        return not self.differing


def compare(published: Totals, exposition: str, families: Iterable[Family]) -> list[Line]:
    """Compare totals: a line for the envelopes, and one for each sample name that was published or is scraped.

    What a side lacks is 0 there.

    Args:
        published: what agents published.
        exposition: a scrape in the text format 0.0.4.
        families: the catalogue's.
    """
    agents = [family for family in families if not family.internal]
    names = {
        family.name + suffix for family in agents for suffix in _COUNTED.get(family.type, ())
    } | published.series.keys()
    measured = {name + suffix for name in MEASURED for suffix in _COUNTED["histogram"]}
    scraped = totals(exposition, {*names, ENVELOPES})
    consumed = {"": fsum(scraped.get(ENVELOPES, {}).values())}
    return [
        _line(ENVELOPES, {"": published.envelopes}, consumed),
        *(
            _line(name, published.series.get(name, {}), scraped.get(name, {}), may_have_others=name in measured)
            for name in sorted(published.series.keys() | scraped.keys() - {ENVELOPES})
        ),
    ]


def totals(exposition: str, names: Collection[str]) -> Series:
    """Read a scrape's series of these sample names."""
    found: Series = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name in names:
                labels = orjson.dumps(sample.labels, option=orjson.OPT_SORT_KEYS).decode()
                found.setdefault(sample.name, {})[labels] = sample.value
    return found


def table(lines: Sequence[Line]) -> Table:
    """Write the lines for a person."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    drawn.add_column("counted", no_wrap=True)
    for column in ("series", "published", "scraped", ""):
        drawn.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        verdict = Text("=", style="green") if line.equal else Text("≠", style="bold red")
        drawn.add_row(line.name, str(line.series), _figure(line.published), _figure(line.scraped), verdict)
    return drawn


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.3f}"


def _line(
    name: str, published: Mapping[str, float], scraped: Mapping[str, float], *, may_have_others: bool = False
) -> Line:
    labels = published.keys() if may_have_others else published.keys() | scraped.keys()
    differing = [label for label in sorted(labels) if not _equal(published.get(label, 0), scraped.get(label, 0))]
    return Line(name, len(labels), fsum(published.values()), fsum(scraped.get(label, 0) for label in labels), differing)


def _equal(published: float, scraped: float) -> bool:
    if float(published).is_integer() and float(scraped).is_integer():
        return published == scraped
    return isclose(published, scraped, rel_tol=RELATIVE_TOLERANCE)
