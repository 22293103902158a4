"""A bridge from prometheus_client: what an existing registry counts is published as it grows.

Counters and histograms are published as increments, gauges as they are. A forked child goes on from where its parent
stood at the fork. On the publishing thread, and on the one that forks.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from math import isfinite
from threading import Lock
from typing import Any

from busmon.publish import Telemetry
from busmon.publish.process import Growth

_logger = logging.getLogger("busmon")

Labels = tuple[tuple[str, str], ...]


def bridge(
    telemetry: Telemetry, registry: Any, *, interval_seconds: float = 1.0, outlives_source: bool = False
) -> None:
    """Publish what a registry has, from now on, with all that it has counted until now.

    A summary has no observations left that could be published, and a metric may be at odds with the catalogue: such a
    one is left out, and named in the log.

    Args:
        telemetry: what publishes it.
        registry: `prometheus_client.REGISTRY`, or another of its registries.
        interval_seconds: how often to look.
        outlives_source: keep the gauges' last values in the scrape when this process has ended, as a Pushgateway does.
    """
    watched = _Bridge(telemetry, registry, outlives_source=outlives_source)
    telemetry.watch(watched.look, interval_seconds=interval_seconds)
    os.register_at_fork(before=watched.look, after_in_child=watched.renew)


class _Bridge:
    def __init__(self, telemetry: Telemetry, registry: Any, *, outlives_source: bool) -> None:
        self._telemetry = telemetry
        self._registry = registry
        self._outlives_source = outlives_source
        self._lock = Lock()
        self._left_out: set[str] = set()
        self._grown: dict[tuple[str, Labels], Growth] = {}
        self._counted: dict[tuple[str, Labels], tuple[list[int], float]] = {}
        self._set: dict[tuple[str, Labels], float] = {}

    def renew(self) -> None:
        """The parent's publishing thread, which may hold the lock, doesn't exist in a forked child."""
        self._lock = Lock()

    def look(self) -> None:
        """Publish what was added since the last look."""
        ways: dict[str, Callable[[Any], None]] = {
            "counter": self._counter,
            "gauge": self._gauge,
            "unknown": self._gauge,
            "histogram": self._histogram,
        }
        with self._lock:
            for family in self._registry.collect():
                if family.name not in self._left_out:
                    self._publish(family, ways.get(family.type, _refuse))

    def _publish(self, family: Any, way: Callable[[Any], None]) -> None:
        try:
            way(family)
        except ValueError as error:
            self._left_out.add(family.name)
            _logger.warning("a metric of the registry isn't published: %s", error)

    def _counter(self, family: Any) -> None:
        for sample in family.samples:
            if sample.name.endswith("_total"):
                key = sample.name, _labels(sample)
                if key not in self._grown:
                    counter = self._telemetry.counter(sample.name, family.documentation, [name for name, _ in key[1]])
                    self._grown[key] = Growth(_child(counter, key[1]))
                self._grown[key].reach(sample.value)

    def _gauge(self, family: Any) -> None:
        for sample in family.samples:
            key = sample.name, _labels(sample)
            # A gauge that outlives its source must be set when its value is new, and not again.
            if self._set.get(key) == sample.value or not isfinite(sample.value):  # NaN: the collector doesn't know
                continue
            gauge = self._telemetry.gauge(
                sample.name,
                family.documentation,
                [name for name, _ in key[1]],
                outlives_source=self._outlives_source,
            )
            _child(gauge, key[1]).set(sample.value)
            self._set[key] = sample.value

    def _histogram(self, family: Any) -> None:
        buckets: defaultdict[Labels, dict[float, int]] = defaultdict(dict)
        sums: dict[Labels, float] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                buckets[_labels(sample)][float(sample.labels["le"])] = int(sample.value)
            elif sample.name.endswith("_sum"):
                sums[_labels(sample)] = sample.value
        for labels, cumulative in buckets.items():
            self._count(family, labels, cumulative, sums.get(labels, 0.0))

    def _count(self, family: Any, labels: Labels, cumulative: dict[float, int], total: float) -> None:
        bounds = sorted(cumulative)
        counts = _differences(cumulative[bound] for bound in bounds)
        known, known_total = self._counted.get((family.name, labels), ([0] * len(counts), 0.0))
        grown = [now - before for now, before in zip(counts, known, strict=True)]
        if min(grown) < 0:  # begun anew
            grown, known_total = counts, 0.0
        self._counted[family.name, labels] = counts, total
        if any(grown):
            names = [name for name, _ in labels]
            histogram = self._telemetry.counted_histogram(family.name, family.documentation, names, buckets=bounds)
            _child(histogram, labels).add(grown, total - known_total)


def _refuse(family: Any) -> None:
    raise ValueError(f"{family.name}: a {family.type} can't be bridged")


def _labels(sample: Any) -> Labels:
    return tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))


def _child(instrument: Any, labels: Labels) -> Any:
    return instrument.labels(*(value for _, value in labels)) if labels else instrument


def _differences(cumulative: Iterable[int]) -> list[int]:
    counts, below = [], 0
    for count in cumulative:
        counts.append(count - below)
        below = count
    return counts
