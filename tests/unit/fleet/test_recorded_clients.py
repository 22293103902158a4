"""Publishes of real clients count as the clients meant them, by each way in which their properties are decoded."""

from pathlib import Path
from types import ModuleType

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.properties import LazyProperties
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.scrape.exposition import Exposition
from tests.clients.recorded import FORMATS, RECORDED, Recorded
from tests.unit.bus.frames.ways import Reader, both_ways, plain

from .settlements import Worker

each = pytest.mark.parametrize("recorded", RECORDED, ids=str)


def by_pika(recorded: Recorded) -> Delivery:
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key=recorded.routing_key)
    return Delivery.from_pika(method, LazyProperties(recorded.properties), recorded.body)


def peeled(way: ModuleType, recorded: Recorded) -> Delivery:
    reader = Reader(way)
    delivery = plain(body=recorded.body, encoded=recorded.properties, routing_key=recorded.routing_key.encode())
    return [reader.peel(delivery) for _ in range(6)][-1]  # the last by the layout of the others


@each
def test_a_recorded_publish_counts_what_its_client_meant(recorded: Recorded, tmp_path: Path) -> None:
    assert_counted(by_pika(recorded), recorded, tmp_path)


@both_ways
@each
def test_a_recorded_publish_counts_what_its_client_meant_if_it_is_peeled(
    recorded: Recorded, way: ModuleType, tmp_path: Path
) -> None:
    assert_counted(peeled(way, recorded), recorded, tmp_path)


def assert_counted(delivery: Delivery, recorded: Recorded, registry: Path) -> None:
    with Worker(registry, formats=FORMATS) as worker:
        worker.lane.deliver([delivery])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_samples_rejected_total") == 0
        reasons = [quarantined.headers["reason"] for quarantined in worker.broker.quarantined]
    lines = [line.rsplit(" ", 1) for line in Exposition(registry).text().decode().splitlines() if line[0] != "#"]
    scraped = {name: float(value) for name, value in lines}
    assert reasons == ([recorded.refused] if recorded.refused else [])
    assert {name: scraped.get(name) for name in recorded.counts} == recorded.counts


@both_ways
@each
def test_each_way_tells_the_same_of_the_properties(recorded: Recorded, way: ModuleType) -> None:
    quick, full = peeled(way, recorded), by_pika(recorded)
    assert quick.properties == full.properties == BasicProperties().decode(recorded.properties)
    for name in {*Delivery._fields} - {"received_at"}:
        assert getattr(quick, name) == getattr(full, name)
