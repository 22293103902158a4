"""Publishes of real clients count as the clients meant them, by either way in which its properties are decoded."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery, UnreadDelivery
from busmon.bus.frames.peeled_properties import UNREAD, PropertiesReader
from busmon.bus.frames.properties import LazyProperties
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.scrape.exposition import Exposition
from tests.clients.recorded import FORMATS, RECORDED, Recorded

from .settlements import Worker

each = pytest.mark.parametrize("recorded", RECORDED, ids=str)


def by_pika(recorded: Recorded) -> Delivery:
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key=recorded.routing_key)
    return Delivery.from_pika(method, LazyProperties(recorded.properties), recorded.body)


def peeled(recorded: Recorded) -> Delivery:
    """As the consumer's short way has it."""
    reader = PropertiesReader()
    properties = [reader.read(recorded.properties) for _ in range(6)][-1]  # the last by the layout of the others
    kind = UnreadDelivery if properties[3] is UNREAD else Delivery
    return kind(recorded.body, 1, False, "telemetry", recorded.routing_key, *properties, recorded.properties)  # noqa: FBT003 - a named tuple


@each
@pytest.mark.parametrize("delivered", [by_pika, peeled])
def test_a_recorded_publish_counts_what_its_client_meant(
    recorded: Recorded, delivered: Callable[[Recorded], Delivery], tmp_path: Path
) -> None:
    with Worker(tmp_path, formats=FORMATS) as worker:
        worker.lane.deliver([delivered(recorded)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_samples_rejected_total") == 0
        reasons = [quarantined.headers["reason"] for quarantined in worker.broker.quarantined]
    lines = [line.rsplit(" ", 1) for line in Exposition(tmp_path).text().decode().splitlines() if line[0] != "#"]
    scraped = {name: float(value) for name, value in lines}
    assert reasons == ([recorded.refused] if recorded.refused else [])
    assert {name: scraped.get(name) for name in recorded.counts} == recorded.counts


@each
def test_both_ways_tell_the_same_of_the_properties(recorded: Recorded) -> None:
    quick, full = peeled(recorded), by_pika(recorded)
    assert quick.properties == full.properties == BasicProperties().decode(recorded.properties)
    for name in Delivery._fields:
        assert getattr(quick, name) == getattr(full, name)
