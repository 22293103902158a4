"""The client for Node, with the packages that its lock file pins, against a real fleet whose connections are closed.

Run by `make test-node`: it takes Node, npm and a registry of packages.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pika
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import busmon.wire
from busmon.demo.broker import PrivateNode
from busmon.errors import BusError
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

CLIENT = Path(__file__).parents[2] / "docs" / "clients" / "node"
TRAFFIC = Path(__file__).with_name("traffic.js")
SCHEMAS = Path(busmon.wire.__file__).parent / "schema"
ENVELOPES = 300


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A directory with the client, its packages and the traffic."""
    directory = tmp_path / "node"
    shutil.copytree(CLIENT, directory, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(TRAFFIC, directory)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=directory, check=True, capture_output=True)
    return directory


def bodies(node: PrivateNode) -> Iterator[bytes]:
    """Read the bodies in the queue that mirrors the fleet's."""
    connection = pika.BlockingConnection(pika.URLParameters(node.amqp_url))
    channel = connection.channel()
    while (got := channel.basic_get("mirror", auto_ack=True))[2] is not None:
        yield got[2]
    connection.close()


def declare_beside(node: PrivateNode) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(node.amqp_url))
    channel = connection.channel()
    channel.queue_declare("mirror", durable=True)
    channel.queue_bind("mirror", "telemetry", "front-end.#")
    connection.close()


def close_all_connections(node: PrivateNode) -> None:
    for connection in json.loads(node.management("GET", "/api/connections")):
        with suppress(BusError):
            node.management("DELETE", f"/api/connections/{quote(connection['name'])}")


def test_what_node_publishes_is_counted_exactly_and_is_as_the_schema_says(
    tmp_path: Path, client: Path, dedicated_node: PrivateNode
) -> None:
    with RealFleet(tmp_path, dedicated_node.amqp_url) as fleet:
        declare_beside(dedicated_node)
        command = ["node", "traffic.js", dedicated_node.amqp_url, str(ENVELOPES)]
        with subprocess.Popen(command, cwd=client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            for _ in range(2):
                wait_until(partial(counts_on, fleet, fleet.totals()), "votes")
                close_all_connections(dedicated_node)
            assert service.stdout.readline() == "published\n"
            fleet.wait_for_total("clicks_total", 2 * ENVELOPES)
            fleet.wait_for_total("votes_cast_total", ENVELOPES)
            totals = fleet.totals()
            assert totals["open_pages"] == 7
            assert totals["wait_seconds_count"] == ENVELOPES
            assert totals["wait_seconds_sum"] == pytest.approx(ENVELOPES * 0.275)
            assert totals.get("busmon_samples_rejected_total", 0) == 0
            assert totals["nodejs_eventloop_lag_seconds"] >= 0
            said, _ = service.communicate()
        assert json.loads(said) == {"lost": 0, "dropped": 0}
        wait_until(lambda: "open_pages" not in fleet.totals(), "its gauges to leave")
    check_schema([*bodies(dedicated_node)])


def counts_on(fleet: RealFleet, before: Mapping[str, float]) -> bool:
    return fleet.totals().get("votes_cast_total", 0.0) > before.get("votes_cast_total", 0.0)


def check_schema(published: list[bytes]) -> None:
    schemas = [json.loads((SCHEMAS / f"{name}.json").read_text()) for name in ("envelope", "sample")]
    registry: Registry = Registry().with_resources((each["$id"], Resource.from_contents(each)) for each in schemas)
    validator = Draft202012Validator(schemas[0], registry=registry)
    assert len(published) > ENVELOPES
    for body in published:
        validator.validate(json.loads(body))
    assert time.time() - 600 < json.loads(published[0])["ts"] < time.time()
