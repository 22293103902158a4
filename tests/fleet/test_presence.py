"""Presence: the gauges of a source that stops or falls silent leave without a delivery; outliving gauges stay."""

import time
from pathlib import Path

import orjson
import pika
from prometheus_client.parser import text_string_to_metric_families

from busmon import Telemetry
from tests.conftest import Vhost
from tests.fleet.publishing import envelope, properties, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

SUCCESS = "batch_job_last_success_timestamp_seconds"


def agents(fleet: RealFleet) -> dict[str, float]:
    """Live agents, by type."""
    families = text_string_to_metric_families(fleet.get("/metrics")[1].decode())
    samples = [sample for family in families for sample in family.samples if sample.name == "active_agents"]
    return {sample.labels["type"]: sample.value for sample in samples}


def heartbeat(source: str, agent: str, *, final: bool = False) -> tuple[bytes, pika.BasicProperties]:
    """An envelope without samples."""
    document = {"v": 1, "source": source, "agent": agent, "samples": [], "final": final}
    return orjson.dumps(document), properties(source, None)


def test_a_silent_sources_gauges_leave_without_any_delivery(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url, BUSMON_PRESENCE_TTL_SECONDS="3") as fleet:
        reading = {"name": "active_agents", "labels": {"type": "reviewer"}, "value": 4}
        success = {"name": SUCCESS, "labels": {"job_name": "backup"}, "value": 1000}
        bodies = [envelope("r-1", 1, [reading, success]), heartbeat("p-1", "planner"), heartbeat("p-2", "planner")]
        publish(vhost.amqp_url, bodies)
        wait_until(lambda: agents(fleet).items() >= {"reviewer": 4, "planner": 2}.items(), "all agents")
        consumed = fleet.totals()["busmon_envelopes_consumed_total"]
        wait_until(lambda: not agents(fleet), "the silent ones to leave")
        assert fleet.totals()["busmon_envelopes_consumed_total"] == consumed
        assert fleet.totals()[SUCCESS] == 1000


def test_a_source_that_stops_leaves_at_once(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        publish(vhost.amqp_url, [heartbeat("p-1", "planner")])
        with Telemetry("planner", vhost.amqp_url) as telemetry:
            telemetry.gauge("queue_size", labelnames=["queue"]).labels("tasks").set(7)
            with telemetry.job("backup"):
                started_at = time.time()
            assert telemetry.flush()
            wait_until(lambda: agents(fleet) == {"planner": 2}, "both planners")
            assert fleet.totals()["queue_size"] == 7
        wait_until(lambda: agents(fleet) == {"planner": 1}, "one to leave")
        assert "queue_size" not in fleet.totals()
        assert fleet.totals()[SUCCESS] >= started_at
        publish(vhost.amqp_url, [heartbeat("p-1", "planner", final=True)])
        wait_until(lambda: agents(fleet) == {}, "the other to leave")
