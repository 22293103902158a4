"""Bodies of real clients in Prometheus' text and OpenMetrics, read as each client means them."""

from pathlib import Path
from typing import Any

import pytest

from busmon.wire.envelope import Observed

from .exposed import OPENMETRICS, QUEUE, decoded

RECORDED = Path(__file__).parent / "expositions"
"""Bodies of client_golang 1.25.0, client_java 1.3.6, client_rust 0.23.1 and prom-client 15.1.3, byte for byte."""

WAIT = Observed(2, 7.5, {0.1: 0, 1: 1})
SIZE = Observed(2, 40, {})
LONE = Observed(1, 3, {})
DEFAULT = Observed(1, 3, {**dict.fromkeys((0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5), 0), 5: 1, 10: 0})

GO = {
    "depth": ({}, -2.5),
    "jobs_total": (QUEUE, 3),
    "lone_seconds": ({}, LONE),
    "size_bytes": ({}, SIZE),
    "unbounded_seconds": ({}, DEFAULT),
    "wait_seconds": ({}, WAIT),
}
JAVA = {
    "build_info": ({"version": "1.2"}, 1),
    "depth": ({}, -2.5),
    "jobs_total": (QUEUE, 3),
    "my_requests_total": ({"http_route": "/v1"}, 4),
    "native_seconds": ({}, LONE),
    "size_bytes": ({}, SIZE),
    "state": ({"state": "on"}, 1),
    "wait_seconds": ({}, WAIT),
}
NODE = {
    "jobs_total": (QUEUE, 3),
    "depth": ({"queue": "q"}, -2.5),
    "wait_seconds": ({"code": "200"}, WAIT),
    "size_bytes": ({}, SIZE),
}
BODIES: dict[str, dict[str, Any]] = {
    "golang": {**GO, "my_requests_total": ({"http_route": "/v1"}, 4)},
    "golang-utf8": {**GO, "my_requests_total": ({"http.route": "/v1"}, 4)},
    "golang-openmetrics": {  # the counter's name has no `_total`, so that client_golang states no type of it
        **GO,
        "my_requests": ({"http.route": "/v1"}, 4),
        "my_requests_created": ({"http.route": "/v1"}, 1795974762.265027),
    },
    "java": JAVA,
    "java-openmetrics": JAVA,
    "prom-client": NODE,
    "prom-client-openmetrics": NODE,
    "rust-openmetrics": {
        "depth": ({}, -2.5),
        "wait_seconds": ({}, WAIT),
        "unbounded_seconds": ({}, LONE),
        "hits_total": ({}, 4),
        "build_info": ({"version": "1.2"}, 1),
    },
}
ESCAPES_NOTHING = {"rust-openmetrics": {"invalid_exposition": 3}}
"""client_rust writes quotes and line breaks of label values and help texts as they are: two lines each."""


@pytest.mark.parametrize("name", BODIES)
def test_a_real_clients_body_is_read_as_the_client_means_it(name: str) -> None:
    body = (RECORDED / f"{name}.txt").read_text()
    part = decoded(body, OPENMETRICS if name.endswith("openmetrics") else "text/plain; version=0.0.4").parts[0]
    assert {point.family: (dict(point.labels), point.value) for point in part.points} == BODIES[name]
    assert part.rejections is not None
    assert part.rejections.counts == ESCAPES_NOTHING.get(name, {})


@pytest.mark.parametrize(
    ("name", "created"),
    [("golang-openmetrics", 1795974762.2649784), ("java", 1795974912.297), ("java-openmetrics", 1795974912.297)],
)
def test_a_real_clients_totals_count_since_they_were_created(name: str, created: float) -> None:
    points = decoded((RECORDED / f"{name}.txt").read_text(), OPENMETRICS).parts[0].points
    assert {point.start for point in points if point.family == "jobs_total"} == {created}
    assert all(point.start for point in points if point.type in {"counter", "histogram", "summary"})
