"""A metric family: what a name means, the same for every process of the fleet.

Plain data that never changes; whoever builds one has checked it. Any thread, any process.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod

from busmon.catalogue import naming

COUNTER, GAUGE, HISTOGRAM, SUMMARY = TYPES = ("counter", "gauge", "histogram", "summary")
MERGES = ("latest", "sum", "min", "max", "add")

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""prometheus_client's, without +Inf."""

MAX_BOUNDED_SERIES = 1000

_GAUGE_TTL_SECONDS = 300.0

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    COUNTER: ("", "_total", "_created"),
    GAUGE: ("",),
    HISTOGRAM: ("", "_bucket", "_sum", "_count", "_created"),
    SUMMARY: ("", "_sum", "_count", "_created"),
}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family.

    Attributes:
        name: as publishers write it.
        type: `counter`, `gauge`, `histogram` or `summary`.
        labelnames: in the order in which they are exposed.
        buckets: a histogram's finite upper bounds, ascending; +Inf is always there and not among them.
        quantiles: a summary's, each in (0, 1).
        merge: how a gauge's sources become one value: `latest`, `sum`, `min`, `max`, or `add` for a gauge that
            accumulates increments and takes no `set`.
        outlives_source: a gauge's value stays when the source that said it has ended, until a later one comes.
        values: enumerated label values, by label name: a hint for series at 0 from the start, not a closed set.
        internal: measured by busmon itself; refused from publishers.
        ttl_seconds: time that a series stays in the scrape after its last update; None without limit.
        budgets: how many values a label may take in addition to its enumerated ones, by label name, where it isn't the
            fleet's default.
        aggregate_away: labels that publishers may send, and that are dropped before anything is counted.
    """

    name: str
    type: str
    help: str
    labelnames: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = ()
    merge: str = "latest"
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    internal: bool = False
    ttl_seconds: float | None = None
    budgets: Mapping[str, int] = field(default_factory=dict, hash=False)
    aggregate_away: tuple[str, ...] = ()
    outlives_source: bool = False

    @property
    def metric_name(self) -> str:
        """The name without a counter's `_total`: OpenMetrics' family name, and the first part of a stock file's key."""
        return self.name.removesuffix("_total") if self.type == COUNTER else self.name

    @property
    def exposed(self) -> tuple[str, ...]:
        """Every name that it occupies in a scrape, and that no other family may use."""
        return tuple(self.metric_name + suffix for suffix in _SUFFIXES[self.type])

    @property
    def unit(self) -> str:
        """The unit that the name states, for example `seconds`; empty for a plain number."""
        return naming.unit(self.name)

    def list_bounded_series(self) -> Iterator[tuple[str, ...]]:
        """Yield the label values of every series that is exposed at 0 before anybody publishes it.

        All combinations, where each label is enumerated and they are at most `MAX_BOUNDED_SERIES`; else none. A gauge
        has none, since its 0 would be a reading that nobody took.
        """
        enumerated = [self.values.get(label, ()) for label in self.labelnames]
        if self.type != GAUGE and prod(map(len, enumerated)) <= MAX_BOUNDED_SERIES:
            yield from product(*enumerated)


def default_ttl_seconds(type_: str, *, outlives_source: bool = False) -> float | None:
    """Return a silent series' default time in the scrape: without limit, unless it is a source's reading."""
    return _GAUGE_TTL_SECONDS if type_ == GAUGE and not outlives_source else None
