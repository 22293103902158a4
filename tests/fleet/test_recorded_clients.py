"""Publishes of real clients are counted by a real fleet, whichever part of it decodes their properties."""

from pathlib import Path
from typing import Any

import pytest

from busmon.bus.frames.properties import LazyProperties
from busmon.bus.operator.quarantine import Quarantine
from busmon.bus.republish.properties import quarantine_properties
from busmon.bus.topology.topology import load
from tests.clients.recorded import FORMATS, RECORDED, RawProperties
from tests.conftest import Vhost
from tests.fleet.real_fleet import RealFleet
from tests.fleet.test_other_clients import channel

FRAME_MAX = 131_072
COUNTER = "tasks_processed_total"
SETTINGS: dict[str, Any] = {
    "BUSMON_FORMATS": ",".join(f"{rule.pattern}={rule.format}" for rule in FORMATS),
    # Recordings of one source state a user, and none. If the ring deals them to one shard, some would be foreign.
    "BUSMON_SOURCE_OWNERSHIP": "off",
}


@pytest.mark.parametrize("plain_pika", ["0", "1"])
def test_recorded_publishes_are_counted_or_refused_as_they_should_be(
    plain_pika: str, tmp_path: Path, vhost: Vhost
) -> None:
    refused = [recorded for recorded in RECORDED if recorded.refused]
    counted = sum(value for recorded in RECORDED for name, value in recorded.counts.items() if name.startswith(COUNTER))
    with (
        RealFleet(tmp_path, vhost.amqp_url, BUSMON_PLAIN_PIKA=plain_pika, **SETTINGS) as fleet,
        channel(vhost.amqp_url) as opened,
    ):
        for recorded in RECORDED:
            properties = RawProperties(recorded)
            opened.basic_publish("telemetry", recorded.routing_key, recorded.body, properties, mandatory=True)
        fleet.wait_for_total("busmon_envelopes_consumed_total", len(RECORDED) - len(refused))
        fleet.wait_for_total("busmon_envelopes_rejected_total", len(refused))
        totals = fleet.totals()
        assert totals[COUNTER] == counted
        assert totals.get("busmon_samples_rejected_total", 0) == 0
        assert totals.get("busmon_envelopes_deduplicated_total", 0) == 0
    assert still_quarantined(vhost) == sorted((each.refused, each.body) for each in refused)


def test_a_recorded_publish_that_was_quarantined_counts_when_it_is_replayed(tmp_path: Path, vhost: Vhost) -> None:
    good = [recorded for recorded in RECORDED if not recorded.refused]
    counted = sum(value for recorded in good for name, value in recorded.counts.items() if name.startswith(COUNTER))
    with RealFleet(tmp_path, vhost.amqp_url, **SETTINGS) as fleet, channel(vhost.amqp_url) as opened:
        for recorded in good:
            why = {"reason": "content_encoding", "original_routing_key": recorded.routing_key, "quarantined_at": "1.5"}
            properties = quarantine_properties(LazyProperties(recorded.properties), why, FRAME_MAX)
            opened.basic_publish("telemetry.quarantine", recorded.routing_key, recorded.body, properties)
        with Quarantine(vhost.amqp_url, load(None, "telemetry")) as quarantine:
            assert sum(step.settled for step in quarantine.replay(lambda _: True)) == len(good)
        fleet.wait_for_total("busmon_envelopes_consumed_total", len(good))
        totals = fleet.totals()
        assert totals[COUNTER] == counted
        assert totals.get("busmon_envelopes_rejected_total", 0) == 0


def still_quarantined(vhost: Vhost) -> list[tuple[str, bytes]]:
    """The reasons and bodies in quarantine; a fleet that has ended has published each of them."""
    with Quarantine(vhost.amqp_url, load(None, "telemetry")) as quarantine:
        return sorted((step.body.cause.reason, step.body.body) for step in quarantine.look())
