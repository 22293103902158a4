"""Bodies in Prometheus' text and in OpenMetrics, decoded."""

from typing import Any

from busmon.wire.arrival import Arrival
from busmon.wire.envelope import Envelope
from busmon.wire.prometheus_text import decode

QUEUE = {"queue": 'a "b" # {c}\\d\ne'}
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def decoded(body: str | bytes, content_type: str | None = "text/plain; version=0.0.4") -> Envelope:
    return decode(Arrival(body if isinstance(body, bytes) else body.encode(), content_type, None, 1 << 20))


def points(body: str | bytes, content_type: str | None = "text/plain; version=0.0.4") -> dict[str, Any]:
    """Type and value of each series, by its family; its labels are left to `labelled`."""
    return {point.family: (point.type, point.value) for point in decoded(body, content_type).parts[0].points}


def labelled(body: str) -> list[tuple[str, dict[str, str], Any]]:
    return [(point.name, dict(point.labels), point.value) for point in decoded(body).parts[0].points]


def rejected(body: str) -> dict[str, int]:
    rejections = decoded(body).parts[0].rejections
    assert rejections is not None
    return dict(rejections.counts)
