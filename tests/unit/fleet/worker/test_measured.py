"""The measurements of a lane's deliveries: latencies, sizes, clock skew, and the last time of each source."""

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from busmon.fleet.worker.trigger import Trigger
from tests.unit.fleet.settlements import NOW, VOTE, Worker, body, delivery

SECOND = 1_000_000_000


class PikasInteger(int):
    """As `pika.compat.long`, which pika makes of a 64-bit header wherever a delivery isn't peeled."""


@pytest.mark.parametrize(
    ("headers", "ts", "latency"),
    [
        ({"published_at_ns": int((NOW - 2) * SECOND)}, NOW - 9, 2.0),
        ({"published_at_ns": int((NOW - 2) * SECOND), "timestamp_in_ms": int((NOW - 5) * 1000)}, None, 2.0),
        ({"timestamp_in_ms": int((NOW - 5) * 1000)}, NOW - 9, 5.0),
        ({"published_at_ns": PikasInteger((NOW - 2) * SECOND)}, NOW - 9, 2.0),
        ({"timestamp_in_ms": PikasInteger((NOW - 5) * 1000)}, NOW - 9, 5.0),
        ({}, NOW - 9, 9.0),
        (None, NOW - 9, 9.0),
        ({"published_at_ns": "soon", "timestamp_in_ms": True}, NOW - 9, 9.0),
        ({"published_at_ns": -5, "timestamp_in_ms": None}, NOW - 9, 9.0),
        (None, None, None),
    ],
)
def test_latency_is_from_the_publish_to_here(
    headers: Any, ts: float | None, latency: float | None, clock: SimpleNamespace, tmp_path: Path
) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(VOTE, ts=ts), headers=headers)])
        clock.now += 7  # the batch is closed later, and the latency is of each delivery
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("message_latency_seconds_count", queue="telemetry.fold.0") == (latency is not None)
        assert worker.shows("message_latency_seconds_sum") == pytest.approx(latency or 0)
        assert worker.shows("busmon_clock_skew_total") == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"published_at_ns": int((NOW + 60) * SECOND)},
        {"published_at_ns": 2**63 - 1},
        {"published_at_ns": 1},
        {"published_at_ns": int((NOW - 31 * 86_400) * SECOND)},
    ],
)
def test_a_publish_that_nobody_can_believe_is_skew_by_agent_and_no_latency(
    headers: dict[str, Any], clock: SimpleNamespace, tmp_path: Path
) -> None:
    assert clock.now == NOW
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, headers=headers)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_clock_skew_total", agent="planner") == 1
        assert worker.shows("message_latency_seconds_count") == 1
        assert worker.shows("message_latency_seconds_sum") == 0


def test_sizes_are_of_bodies_as_they_came(tmp_path: Path) -> None:
    content = gzip.compress(body(VOTE))
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, content, content_encoding="gzip")])
        worker.lane.deliver([delivery(2, message_id="s:1")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("message_size_bytes_sum", type="json") == len(content)


def test_an_agents_last_envelope_and_the_last_commit_are_told(clock: SimpleNamespace, tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for tag, agent in enumerate(("planner", "analyzer", None), start=1):
            clock.now = NOW + tag
            worker.lane.deliver([delivery(tag, body(agent=agent))])
        worker.lane.close(Trigger.INTERVAL)
        worker.lane.deliver([delivery(4)])
        worker.lane.close(Trigger.INTERVAL)
        heard = [worker.shows("busmon_last_envelope_timestamp_seconds", agent=a) for a in ("analyzer", "unknown")]
        assert heard == [NOW + 2, NOW + 3]
        assert worker.shows("busmon_commit_duration_seconds_count") == 1
        assert worker.shows("busmon_commit_duration_seconds_sum") > 0
