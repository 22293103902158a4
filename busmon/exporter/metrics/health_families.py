"""The own metric families of health: what `/ready` says, in figures to alert by.

Pure: the same roll call and findings that the documents are made of go in.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from busmon.exporter.checks.findings import BREAKER_STATES, Finding, Findings
from busmon.exporter.families import gauge
from busmon.exporter.readiness import documents
from busmon.exporter.readiness.rollcall import RollCall

_GOOD = frozenset({"complete", "true", "available"})


def collect(roll: RollCall, findings: Findings) -> Iterator[Metric]:
    """Yield the families."""
    document = documents.readiness(roll, findings)
    yield GaugeMetricFamily(
        "busmon_ready",
        "Whether /ready says ready or standby (1) or not (0).",
        document["status"] != documents.NOT_READY,
    )
    yield gauge(
        "busmon_readiness_check",
        "Whether this check of /ready passes (1) or not (0).",
        ("check",),
        {(name,): word in _GOOD for name, word in document["checks"].items()},
    )
    yield gauge(
        "busmon_dependency_up",
        "Whether this service is connected (1) or not (0).",
        ("dependency",),
        {(name,): word == "connected" for name, word in document["services"].items()},
    )
    yield from _collect_checks({finding.name: finding for finding in findings.dependencies})
    yield from _resources(findings)


def _collect_checks(findings: Mapping[str, Finding]) -> Iterator[Metric]:
    yield gauge(
        "busmon_dependency_breaker_state",
        "Whether the circuit breaker of the dependency's check is in this state (1) or not (0).",
        ("dependency", "state"),
        {(name, state): finding.breaker == state for name, finding in findings.items() for state in BREAKER_STATES},
    )
    yield gauge(
        "busmon_dependency_check_duration_seconds",
        "Time that the dependency's last check took.",
        ("dependency",),
        {(name,): finding.duration_seconds for name, finding in findings.items()},
    )
    yield gauge(
        "busmon_dependency_check_timestamp_seconds",
        "When the dependency's last check ended, in seconds since the epoch.",
        ("dependency",),
        {(name,): finding.checked_at for name, finding in findings.items() if finding.checked_at is not None},
    )


def _resources(findings: Findings) -> Iterator[Metric]:
    yield gauge(
        "busmon_resource_usage_ratio",
        "The share of a resource in use: of the container's limit, where there is one, else of the machine.",
        ("resource",),
        {(usage.resource,): usage.ratio for usage in findings.resources},
    )
    yield gauge(
        "busmon_resource_threshold_ratio",
        "The share of a resource in use above which /ready is degraded.",
        ("resource",),
        {(usage.resource,): usage.threshold for usage in findings.resources},
    )
