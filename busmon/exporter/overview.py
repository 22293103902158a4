"""The overview: the few figures a person looks at, one model for every view (`busmon top` and the page).

Pure. A `Window` is fed with the figures of successive collections, at any pace; an `Overview` is what they say with a
roll call beside them, and travels as the JSON of `/overview`. Rates are growth over the last few seconds.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, NamedTuple, Self

from busmon.exporter.health import liveness, readiness
from busmon.exporter.rollcall import RollCall, ShardRow, WorkerRow
from busmon.registry.scrape.snapshot import Snapshot

RATE_SPAN_SECONDS = 5.0
"""How far back rates and quantiles look: long enough to be steady, short enough to follow."""

HISTORY_SECONDS = 60.0

Buckets = Sequence[tuple[float, float]]
"""A histogram: upper bounds, ascending, the last one +Inf, with cumulative counts."""


class Figures(NamedTuple):
    """What the overview takes from one collection: counts since the shards' files began.

    Attributes:
        at: seconds of any clock that never steps back.
        latency: by queue; agents may publish latencies of queues of their own.
    """

    at: float
    envelopes: float
    samples: float
    deduplicated: float
    publisher_dropped: float
    latency: Mapping[str, Buckets]
    rejected: Mapping[str, float]
    quarantined: Mapping[str, float]
    series: int


NOTHING = Figures(0.0, 0.0, 0.0, 0.0, 0.0, {}, {}, {}, 0)
"""The figures before the first collection."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Growth a second; None until two collections lie within the span."""

    envelopes: float | None
    samples: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from publish to consume; None where nothing was consumed in the span."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the shards' files began; `rejected` counts samples, `quarantined` envelopes, each by reason."""

    envelopes: float
    samples: float
    deduplicated: float
    publisher_dropped: float
    rejected: dict[str, float]
    quarantined: dict[str, float]


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole of it.

    Attributes:
        at: seconds since the epoch.
        scrape: the address that Prometheus scrapes.
        alive: the liveness document's status.
        ready: the readiness document's status.
        degraded: what is wrong, in words.
        history: envelopes a second, one figure a collection of the last minute, oldest first.
        series: in the shards' files.
        skipped: files left out of the scrape, with reasons.
    """

    at: float
    version: str
    scrape: str
    alive: str
    ready: str
    degraded: list[str]
    rates: Rates
    latency: Latency
    totals: Totals
    history: list[float]
    shards: list[ShardRow]
    workers: list[WorkerRow]
    series: int
    skipped: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The fields of the `/overview` document."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The overview that `as_json` made these fields of.

        Raises:
            TypeError: another version of busmon wrote them.
            KeyError: likewise.
        """
        return cls(
            **{
                **fields,
                "rates": Rates(**fields["rates"]),
                "latency": Latency(**fields["latency"]),
                "totals": Totals(**fields["totals"]),
                "shards": [ShardRow(**row) for row in fields["shards"]],
                "workers": [WorkerRow(**row) for row in fields["workers"]],
            }
        )


class Window:
    """The last minute of collections."""

    def __init__(self) -> None:
        self._recent: deque[Figures] = deque()
        self._history: deque[tuple[float, float]] = deque()

    @property
    def latest(self) -> Figures | None:
        """The newest figures."""
        return self._recent[-1] if self._recent else None

    @property
    def spans(self) -> bool:
        """Whether there are two collections to tell a rate by."""
        return len(self._recent) > 1

    def due(self, now: float, interval_seconds: float) -> bool:
        """Whether the newest figures are at least this old, or there are none."""
        return not self._recent or now - self._recent[-1].at >= interval_seconds

    def add(self, figures: Figures) -> None:
        """Take the figures of a newer collection, and forget those too old to count."""
        self._recent.append(figures)
        while figures.at - self._recent[0].at > RATE_SPAN_SECONDS:
            self._recent.popleft()
        if self.spans:
            self._history.append((figures.at, _rate(self._recent[-2], figures, "envelopes")))
        while self._history and figures.at - self._history[0][0] > HISTORY_SECONDS:
            self._history.popleft()

    def rates(self) -> Rates:
        """Growth a second over the span."""
        if not self.spans:
            return Rates(None, None)
        first, last = self._recent[0], self._recent[-1]
        return Rates(_rate(first, last, "envelopes"), _rate(first, last, "samples"))

    def latency(self, queues: Collection[str]) -> Latency:
        """Quantiles of the latencies that were counted within the span, of these queues together."""
        if not self.spans:
            return Latency(None, None)
        before, after = self._recent[0].latency, self._recent[-1].latency
        grown = together(growth(before.get(queue, ()), after[queue]) for queue in queues if queue in after)
        return Latency(quantile(0.5, grown), quantile(0.99, grown))

    def history(self) -> list[float]:
        """Envelopes a second between neighbouring collections, oldest first."""
        return [rate for _, rate in self._history]


def figures(at: float, snapshot: Snapshot) -> Figures:
    """The overview's figures in a snapshot of the shards' files."""
    return Figures(
        at=at,
        envelopes=snapshot.value("busmon_envelopes_consumed_total"),
        samples=snapshot.value("busmon_samples_folded_total"),
        deduplicated=snapshot.value("busmon_envelopes_deduplicated_total"),
        publisher_dropped=snapshot.value("busmon_publisher_dropped_total"),
        latency={
            queue: snapshot.histogram("message_latency_seconds", queue=queue)
            for queue in snapshot.by_label("message_latency_seconds_count", "queue")
        },
        rejected=_some(snapshot.by_label("busmon_samples_rejected_total", "reason")),
        quarantined=_some(snapshot.by_label("busmon_envelopes_rejected_total", "reason")),
        series=sum(snapshot.series.values()),
    )


def overview(window: Window, roll: RollCall, scrape: str, version: str, skipped: Mapping[str, str]) -> Overview:
    """What a window's newest figures and the roll call say."""
    latest = window.latest or NOTHING
    ready = readiness(roll)
    return Overview(
        at=roll.at,
        version=version,
        scrape=scrape,
        alive=liveness(roll, version, roll.at)["status"],
        ready=ready["status"],
        degraded=ready["degraded"],
        rates=window.rates(),
        latency=window.latency([row.queue for row in roll.shards]),
        totals=Totals(
            latest.envelopes,
            latest.samples,
            latest.deduplicated,
            latest.publisher_dropped,
            dict(latest.rejected),
            dict(latest.quarantined),
        ),
        history=window.history(),
        shards=roll.shards,
        workers=roll.workers,
        series=latest.series,
        skipped=dict(skipped),
    )


def growth(before: Buckets, after: Buckets) -> Buckets:
    """The histogram of what was observed between two collections.

    Counts that fell mean files begun anew, so what is there now is what grew, as in Prometheus' `increase`.
    """
    counted = dict(before)
    if any(count < counted.get(bound, 0.0) for bound, count in after):
        return after
    return [(bound, count - counted.get(bound, 0.0)) for bound, count in after]


def together(histograms: Iterable[Buckets]) -> Buckets:
    """The sum of histograms."""
    counts: dict[float, float] = {}
    for bound, count in chain.from_iterable(histograms):
        counts[bound] = counts.get(bound, 0.0) + count
    return sorted(counts.items())


def quantile(q: float, buckets: Buckets) -> float | None:
    """The q-quantile of a histogram, as Prometheus' `histogram_quantile` interpolates it; None of an empty one.

    The rank is q * count; the bucket is the first whose cumulative count reaches it, and within it observations count
    as evenly spread: lower + (upper - lower) * (rank - below) / (cumulative - below). The first bucket begins at 0; a
    rank in the last one, to +Inf, gives that bucket's lower bound, the most that is known.
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for upper, cumulative in buckets:
        if cumulative >= rank and cumulative > below:
            return lower if math.isinf(upper) else lower + (upper - lower) * (rank - below) / (cumulative - below)
        lower, below = upper, cumulative
    return lower


def _rate(first: Figures, last: Figures, figure: str) -> float:
    before, after = getattr(first, figure), getattr(last, figure)
    return float(after - before if after >= before else after) / (last.at - first.at)


def _some(counts: Mapping[str, float]) -> dict[str, float]:
    return {reason: count for reason, count in counts.items() if count > 0}
