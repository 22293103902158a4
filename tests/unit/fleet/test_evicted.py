"""A source that was evicted from the ledger isn't silent: its gauges stay until it is."""

from pathlib import Path

import orjson
import pytest

from busmon.fleet.worker.trigger import Trigger
from busmon.registry.ledger import ledger as ledgers

from .settlements import NOW, Worker, body, delivery

pytestmark = pytest.mark.usefixtures("clock")

GAUGE = {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 7}


def test_gauges_and_presence_of_an_evicted_source_stay_until_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 3)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(GAUGE), message_id="s:1")])
        worker.lane.close(Trigger.INTERVAL)
        for tag in range(2, 10):
            worker.lane.deliver([delivery(tag, body(source=f"other-{tag}"), message_id=f"other-{tag}:1")])
        worker.lane.close(Trigger.INTERVAL)
        assert not worker.registry.shard.ledger.knows("s")
        worker.expire(NOW - 1)
        assert worker.shows("queue_size", queue="tasks") == 7
        assert worker.shows("active_agents", type="planner") == 9
        worker.expire(NOW + 1)
        assert worker.shows("active_agents", type="planner") == 0
        worker.lane.deliver([delivery(20)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_sources_evicted_total", agent="planner") == 6


def exported(*instances: tuple[str, str]) -> bytes:
    """Make an OTLP body with a resource of each service's instance."""
    named = [zip(("service.name", "service.instance.id"), instance, strict=True) for instance in instances]
    resources = [
        {"resource": {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes]}}
        for attributes in named
    ]
    return orjson.dumps({"resourceMetrics": resources})


def test_each_source_in_a_body_is_charged_to_its_own_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Collector carries the metrics of many services; the first one in its body owes nothing for the others."""
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 3)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, exported(("checkout", "a"), ("cart", "1"), ("cart", "2"), ("cart", "3")))])
        worker.lane.close(Trigger.INTERVAL)
        ledger = worker.registry.shard.ledger
        known = [source for source in ("checkout/a", "cart/1", "cart/2", "cart/3") if ledger.knows(source)]
        assert known == ["checkout/a", "cart/2", "cart/3"]
        worker.lane.deliver([delivery(2, exported(("checkout", "a")))])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_sources_evicted_total", agent="cart") == 1
