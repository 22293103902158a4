"""A bridge from prometheus_client: what an existing registry counts is published as it grows.

Counters and histograms are published as increments, gauges as they are. A collector, family or series that can't be
published is told once and costs nothing else. A child that Python forks goes on from where its parent stood at the
fork; any other child from the parent's last look. On the publishing thread, and on the one that forks.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf, isfinite
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from busmon.instrument.collecting import Collecting
from busmon.publish import Telemetry, forks
from busmon.publish.process import Growth

_logger = logging.getLogger("busmon")

Labels = tuple[tuple[str, str], ...]

_bridged: WeakKeyDictionary[Any, WeakSet[Telemetry]] = WeakKeyDictionary()
"""The publishers of each bridged registry."""


def bridge(
    telemetry: Telemetry, registry: Any, *, interval_seconds: float = 1.0, outlives_source: bool = False
) -> None:
    """Publish what a registry has, from now on, with all that it has counted until now.

    A summary has no observations left that could be published, and a metric may be at odds with the catalogue: such a
    one is left out, and named in the log. So is a collector that raises, or that takes too long.

    A second call for the same registry and `Telemetry` changes nothing, so nothing counts twice.

    Args:
        telemetry: what publishes it.
        registry: `prometheus_client.REGISTRY`, or another of its registries.
        interval_seconds: how often to look.
        outlives_source: keep the gauges' last values in the scrape when this process has ended, as a Pushgateway does.
    """
    bridged = _bridged.setdefault(registry, WeakSet())
    if telemetry in bridged:
        return
    bridged.add(telemetry)
    watched = Bridge(telemetry, Collecting(registry), outlives_source=outlives_source)
    telemetry.watch(watched.look, interval_seconds=interval_seconds)
    forks.on_fork(watched.renew)
    os.register_at_fork(before=watched.hold, after_in_parent=watched.release)


@dataclass(slots=True)
class _Observations:
    """The samples of one series of a histogram."""

    cumulative: dict[float, float] = field(default_factory=dict)
    count: float | None = None
    sum: float = 0.0

    def bounds(self) -> list[float]:
        """Return the upper bounds, ascending, +Inf the last."""
        return [*sorted(bound for bound in self.cumulative if bound < inf), inf]

    def counts(self) -> list[int]:
        """Count the observations of each bucket alone.

        Raises:
            ValueError: the buckets aren't those of a histogram.
        """
        total = self.cumulative.get(inf, self.count)
        if total is None:
            raise ValueError("it has no bucket +Inf and no count")
        counts = _differences([self.cumulative.get(bound, total) for bound in self.bounds()])
        if min(counts) < 0 or any(count % 1 for count in counts) or not isfinite(self.sum):
            raise ValueError("its counts are whole and don't fall from bucket to bucket, and its sum is finite")
        return [int(count) for count in counts]


class Bridge:
    """The published state of a registry, series by series."""

    def __init__(self, telemetry: Telemetry, collecting: Collecting, *, outlives_source: bool = False) -> None:
        self._telemetry = telemetry
        self._collecting = collecting
        self._outlives_source = outlives_source
        self._lock = Lock()
        self._told: set[str] = set()
        self._seen: set[tuple[str, Labels]] = set()
        self._grown: dict[tuple[str, Labels], Growth] = {}
        self._counted: dict[tuple[str, Labels], tuple[list[int], float]] = {}
        self._set: dict[tuple[str, Labels], float] = {}
        self._ways: dict[str, Callable[[Any], None]] = {
            "counter": self._counters,
            "histogram": self._histograms,
            **dict.fromkeys(("gauge", "unknown", "info", "stateset", "gaugehistogram"), self._gauges),
        }

    def hold(self) -> None:
        """Look before a fork, and let no other thread look until the fork is made.

        A registry has locks of its own: one that another thread holds at the fork would never be free in the child.
        """
        self._lock.acquire()
        self._look()

    def release(self) -> None:
        """Let other threads look again."""
        self._lock.release()

    def renew(self) -> None:
        """Go on in a forked child: no thread of the parent's holds the lock there, and its gauges aren't said yet."""
        self._lock = Lock()
        self._collecting.forget_threads()
        self._set.clear()

    def look(self) -> None:
        """Publish what was added since the last look."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        self._seen.clear()
        for family in self._collecting.families():
            self._try(family, lambda family: self._ways.get(family.type, _refuse)(family), family)

    def _try(self, family: Any, publish: Callable[..., None], *arguments: Any) -> None:
        """Publish a family or one series of it; a collector may give anything, so anything may be raised."""
        try:
            publish(*arguments)
        except Exception as error:  # noqa: BLE001
            self._tell(str(getattr(family, "name", type(family).__name__)), error)

    def _tell(self, name: str, error: Exception) -> None:
        if name not in self._told:
            self._told.add(name)
            fault = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            fault = fault if fault.startswith(name) else f"{name}: {fault}"
            _logger.warning("a metric of the registry isn't published: %s", fault)

    def _note(self, name: str, labels: Labels) -> None:
        """Note that a series is published in this look.

        Raises:
            ValueError: it was already, and two totals of one series would be taken for a restart each.
        """
        if (name, labels) in self._seen:
            raise ValueError("a series is given twice; the first counts")
        self._seen.add((name, labels))

    def _counters(self, family: Any) -> None:
        for sample in family.samples:
            if sample.name == family.name or sample.name.endswith("_total"):
                self._try(family, self._counter, family, sample)

    def _counter(self, family: Any, sample: Any) -> None:
        key = sample.name, _labels(sample)
        if not 0 <= sample.value < inf:
            raise ValueError("a counter's value is finite and not negative")
        self._note(*key)
        if key not in self._grown:
            counter = self._telemetry.counter(sample.name, family.documentation, [name for name, _ in key[1]])
            self._grown[key] = Growth(_child(counter, key[1]))
        self._grown[key].reach(sample.value)

    def _gauges(self, family: Any) -> None:
        for sample in family.samples:
            self._try(family, self._gauge, family, sample)

    def _gauge(self, family: Any, sample: Any) -> None:
        key = sample.name, _labels(sample)
        if not isfinite(sample.value):  # NaN is how a collector says that it doesn't know
            return
        self._note(*key)
        if self._outlives_source:  # such a gauge must be set when its value is new, and not again
            if self._set.get(key) == sample.value:
                return
            self._set[key] = sample.value
        names = [name for name, _ in key[1]]
        gauge = self._telemetry.gauge(sample.name, family.documentation, names, outlives_source=self._outlives_source)
        _child(gauge, key[1]).set(sample.value)

    def _histograms(self, family: Any) -> None:
        series: defaultdict[Labels, _Observations] = defaultdict(_Observations)
        for sample in family.samples:
            self._try(family, _gather, series, sample)
        for labels, observations in series.items():
            self._try(family, self._histogram, family, labels, observations)

    def _histogram(self, family: Any, labels: Labels, observations: _Observations) -> None:
        counts, bounds = observations.counts(), observations.bounds()
        self._note(family.name, labels)
        names = [name for name, _ in labels]
        histogram = self._telemetry.histogram_of_counts(family.name, family.documentation, names, buckets=bounds)
        known, known_sum = self._counted.get((family.name, labels), ([0] * len(counts), 0.0))
        grown = [now - before for now, before in zip(counts, known, strict=True)]
        if min(grown) < 0:  # it began again
            grown, known_sum = counts, 0.0
        self._counted[family.name, labels] = counts, observations.sum
        if any(grown):
            _child(histogram, labels).add(grown, observations.sum - known_sum)


def _gather(series: defaultdict[Labels, _Observations], sample: Any) -> None:
    """Take a sample of a histogram in."""
    if sample.name.endswith("_bucket"):
        labels = {**sample.labels}
        bound = float(labels.pop("le"))
        series[_sort(labels)].cumulative[bound] = sample.value
    elif sample.name.endswith("_count"):
        series[_labels(sample)].count = sample.value
    elif sample.name.endswith("_sum"):
        series[_labels(sample)].sum = sample.value


def _refuse(family: Any) -> None:
    raise ValueError(f"{family.name}: a {family.type} can't be bridged")


def _labels(sample: Any) -> Labels:
    return _sort(sample.labels)


def _sort(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _child(instrument: Any, labels: Labels) -> Any:
    return instrument.labels(*(value for _, value in labels)) if labels else instrument


def _differences(cumulative: Iterable[float]) -> list[float]:
    counts, below = [], 0.0
    for count in cumulative:
        counts.append(count - below)
        below = count
    return counts
