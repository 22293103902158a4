"""The window: the figures of successive collections, and what they say of the last seconds and minutes.

Pure. It is fed at any pace: once a second while somebody watches, else by each scrape. Rates and latencies are growth
over the last few seconds; the history goes back for minutes, so that a page opened now can show them.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from busmon.exporter.overview.fill import FamilyRow
from busmon.exporter.overview.histograms import Buckets, growth, quantile, together
from busmon.exporter.readiness.rollcall import ShardRow
from busmon.registry.scrape.snapshot import RegistrySnapshot
from busmon.wire.floats import LARGEST

RATE_SPAN_SECONDS = 5.0
"""How far back rates and quantiles look: long enough to be steady, short enough to follow."""

HISTORY_SECONDS = 300.0
HISTORY_STEP_SECONDS = 2.0
"""How far apart the history's points are, at least."""


class Figures(NamedTuple):
    """The overview's figures of one collection: counts since the shards' files began.

    Attributes:
        at: seconds of any clock that never steps back.
        queues: the shards'.
        queued: messages ready in them, None where unknown.
        by_shard: envelopes, by shard.
        latency: by queue; agents may publish latencies of queues of their own.
        rejected: samples, by reason.
        quarantined: envelopes, by reason.
        heard: when each agent's last envelope was consumed, in seconds since the epoch.
        rejected_of: samples, by the agent that published them.
        dropped_of: samples that the agent itself dropped.
        series: how many the scrape shows.
        families: the families of the scrape.
    """

    at: float
    envelopes: float = 0.0
    samples: float = 0.0
    deduplicated: float = 0.0
    publisher_dropped: float = 0.0
    queues: tuple[str, ...] = ()
    queued: int | None = None
    by_shard: Mapping[str, float] = {}
    latency: Mapping[str, Buckets] = {}
    rejected: Mapping[str, float] = {}
    quarantined: Mapping[str, float] = {}
    heard: Mapping[str, float] = {}
    rejected_of: Mapping[str, float] = {}
    dropped_of: Mapping[str, float] = {}
    series: int = 0
    families: tuple[FamilyRow, ...] = ()

    @property
    def refused(self) -> float:
        """Samples and whole envelopes that count nowhere."""
        return sum(self.rejected.values()) + sum(self.quarantined.values())


def figures(
    at: float, snapshot: RegistrySnapshot, shards: Collection[ShardRow], families: tuple[FamilyRow, ...] = ()
) -> Figures:
    """Take the overview's figures from a snapshot of the shards' files and the rows of shards and families."""
    depths = [row.depth for row in shards if row.depth is not None]
    dropped = _some(snapshot.by_label("busmon_publisher_dropped_total", "agent"))
    return Figures(
        at=at,
        envelopes=snapshot.value("busmon_envelopes_consumed_total"),
        samples=snapshot.value("busmon_samples_folded_total"),
        deduplicated=snapshot.value("busmon_envelopes_deduplicated_total"),
        publisher_dropped=min(LARGEST, sum(dropped.values())),
        queues=tuple(row.queue for row in shards),
        queued=sum(depths) if depths else None,
        by_shard=snapshot.by_label("busmon_envelopes_consumed_total", "shard"),
        latency=snapshot.histograms("message_latency_seconds", "queue"),
        rejected=_some(snapshot.by_label("busmon_samples_rejected_total", "reason")),
        quarantined=_some(snapshot.by_label("busmon_envelopes_rejected_total", "reason")),
        heard=snapshot.by_label("busmon_last_envelope_timestamp_seconds", "agent"),
        rejected_of=_some(snapshot.by_label("busmon_samples_rejected_total", "agent")),
        dropped_of=dropped,
        series=sum(row.series for row in families),
        families=families,
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """Growth a second; None until two collections lie within the span. `refused` counts samples and whole envelopes."""

    envelopes: float | None = None
    samples: float | None = None
    refused: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from publish to consume; None where nothing was consumed in the span.

    Attributes:
        least: the first bucket's upper bound: a quantile up to it is only known to be no more than that.
    """

    p50: float | None = None
    p99: float | None = None
    least: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The last minutes in columns of equal length, oldest first.

    Attributes:
        seconds: before the newest collection, 0 or less.
        envelopes: per second, since the point before; `samples` and `refused` have the same unit.
        p50: seconds, since the point before, as `p99`; None where nothing was consumed.
        queued: at that moment; None where unknown.
    """

    seconds: list[float] = field(default_factory=list)
    envelopes: list[float | None] = field(default_factory=list)
    samples: list[float | None] = field(default_factory=list)
    refused: list[float | None] = field(default_factory=list)
    p50: list[float | None] = field(default_factory=list)
    p99: list[float | None] = field(default_factory=list)
    queued: list[int | None] = field(default_factory=list)


class _Point(NamedTuple):
    """One point of the history; what grew, grew since the point before."""

    at: float
    rates: Rates
    latency: Latency
    queued: int | None


class Window:
    """The last minutes of collections."""

    def __init__(self) -> None:
        self._recent: deque[Figures] = deque()
        self._points: deque[_Point] = deque()
        self._counted: Figures | None = None

    @property
    def latest(self) -> Figures | None:
        """The newest figures."""
        return self._recent[-1] if self._recent else None

    @property
    def spans(self) -> bool:
        """True if the window holds two collections, which a rate needs."""
        return len(self._recent) > 1

    def due(self, now: float, interval_seconds: float) -> bool:
        """Return True if the newest figures are at least this old, or there are none."""
        return not self._recent or now - self._recent[-1].at >= interval_seconds

    def add(self, figures: Figures) -> None:
        """Take the figures of a newer collection, and forget those too old to count."""
        self._recent.append(figures)
        while figures.at - self._recent[0].at > RATE_SPAN_SECONDS:
            self._recent.popleft()
        if self._counted is None:
            self._counted = figures
        elif figures.at - self._counted.at >= HISTORY_STEP_SECONDS:
            self._points.append(_point(self._counted, figures))
            self._counted = figures
        while self._points and figures.at - self._points[0].at > HISTORY_SECONDS:
            self._points.popleft()

    def rates(self) -> Rates:
        """Compute the growth per second over the span."""
        return _rates(self._recent[0], self._recent[-1]) if self.spans else Rates()

    def rate_of(self, shard: int) -> float | None:
        """Compute one shard's envelopes per second over the span."""
        if not self.spans:
            return None
        first, last = self._recent[0], self._recent[-1]
        before, after = (figures.by_shard.get(str(shard), 0.0) for figures in (first, last))
        return _growth(before, after) / (last.at - first.at)

    def latency(self, queues: Collection[str]) -> Latency:
        """Compute quantiles of the latencies that were counted within the span, of these queues together."""
        return _latency(self._recent[0], self._recent[-1], queues) if self.spans else Latency()

    def history(self) -> History:
        """Return the last minutes."""
        points = list(self._points)
        return History(
            seconds=[round(point.at - self._recent[-1].at, 1) for point in points],
            envelopes=[point.rates.envelopes for point in points],
            samples=[point.rates.samples for point in points],
            refused=[point.rates.refused for point in points],
            p50=[point.latency.p50 for point in points],
            p99=[point.latency.p99 for point in points],
            queued=[point.queued for point in points],
        )


def _point(before: Figures, after: Figures) -> _Point:
    return _Point(after.at, _rates(before, after), _latency(before, after, after.queues), after.queued)


def _rates(before: Figures, after: Figures) -> Rates:
    seconds = after.at - before.at
    return Rates(
        _growth(before.envelopes, after.envelopes) / seconds,
        _growth(before.samples, after.samples) / seconds,
        _growth(before.refused, after.refused) / seconds,
    )


def _latency(before: Figures, after: Figures, queues: Collection[str]) -> Latency:
    counted = [
        growth(before.latency.get(queue, ()), after.latency[queue]) for queue in queues if queue in after.latency
    ]
    grown = together(counted)
    return Latency(quantile(0.5, grown), quantile(0.99, grown), grown[0][0] if grown else None)


def _growth(before: float, after: float) -> float:
    """Compute a count's growth; a count that fell began again at 0."""
    return after - before if after >= before else after


def _some(counts: Mapping[str, float]) -> dict[str, float]:
    """Keep the counts above 0, each cut to the largest float: a sum may be infinite, and JSON has no infinity."""
    return {name: min(LARGEST, count) for name, count in counts.items() if count > 0}
