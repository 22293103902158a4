"""Metric families of the exporter's own, made with all their values in one call."""

from collections.abc import Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Values = Mapping[tuple[str, ...], float]
"""The value of each series, by the values of its labels in their order."""


def counter(name: str, help_: str, labels: Sequence[str], values: Values) -> CounterMetricFamily:
    """Make a counter; its name is without `_total`."""
    family = CounterMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def gauge(name: str, help_: str, labels: Sequence[str], values: Values) -> GaugeMetricFamily:
    """Make a gauge."""
    family = GaugeMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
