"""The broker's conditions that degrade a fleet: `/ready` names each one while it lasts, and no longer."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from pika import BasicProperties

from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import Topology, load
from busmon.demo.broker import PrivateNode
from tests.broker.topologies import Client
from tests.conftest import Vhost
from tests.patience import wait_until

from .real_fleet import RealFleet


@pytest.fixture
def topology(vhost: Vhost, node: PrivateNode) -> Iterator[Topology]:
    """Declared under a name of its own, with the fleet's own user, since users are the whole broker's."""
    topology = load(None, f"telemetry-{secrets.token_hex(6)}")
    declare(topology, vhost.amqp_url, vhost.management_url, {"consumer": "secret"})
    yield topology
    node.management("DELETE", f"/api/users/{topology.exchange}-consumer")


SAID_BY_WORKERS = ("shard ", "can't make the ring ", "what waits in ", "what the quarantine drops ", "another fleet ")


def await_named(fleet: RealFleet, *starts: str) -> None:
    """Wait until of what the broker does exactly these are named; what the exporter checks itself doesn't matter."""

    def named() -> bool:
        degraded = fleet.ready()["degraded"]
        found = [line for line in degraded if line.startswith(SAID_BY_WORKERS)]
        return len(found) == len(starts) and all(map(str.startswith, found, starts))

    wait_until(named, f"{starts} to be named")


@pytest.fixture
def fleet(vhost: Vhost, topology: Topology, tmp_path: Path) -> Iterator[RealFleet]:
    """A fleet of the topology's own user, of which nothing is named."""
    url = vhost.amqp_url.replace("guest:guest", f"{topology.exchange}-consumer:secret")
    with RealFleet(tmp_path, url, "--exchange", topology.exchange, BUSMON_WORKERS="2") as fleet:
        await_named(fleet)
        yield fleet


@pytest.fixture
def client(vhost: Vhost) -> Iterator[Client]:
    with Client(vhost.amqp_url) as client:
        yield client


def test_a_missing_object_is_named_until_it_is_declared(
    fleet: RealFleet, client: Client, vhost: Vhost, topology: Topology
) -> None:
    exchange = topology.exchange
    client.channel.queue_delete(f"{exchange}.fold.1")
    await_named(fleet, "shard 1 is missing: queue_missing: NOT_FOUND")
    client.publish(b"{}", BasicProperties(headers={"source": "waits"}), exchange)
    await_named(
        fleet,
        "shard 1 is missing: queue_missing: NOT_FOUND",
        f"can't make the ring '{exchange}.shards', without which envelopes wait: ring_incomplete: NOT_FOUND",
    )
    declare(topology, vhost.amqp_url, None, {})
    await_named(fleet)

    client.channel.queue_delete(f"{exchange}.waiting")
    client.channel.queue_delete(f"{exchange}.quarantine.dropped")
    await_named(
        fleet,
        f"what waits in '{exchange}.waiting' isn't forwarded: queue_missing: NOT_FOUND",
        "what the quarantine drops isn't counted: queue_missing: NOT_FOUND",
    )
    declare(topology, vhost.amqp_url, None, {})
    await_named(fleet)


def test_another_fleet_is_named_while_it_consumes(fleet: RealFleet, client: Client, topology: Topology) -> None:
    other_fleets = client.channel.basic_consume(f"{topology.exchange}.quarantine.dropped", lambda *_: None)
    await_named(fleet, f"another fleet consumes from '{topology.exchange}.quarantine.dropped' too: ")
    client.channel.basic_cancel(other_fleets)
    await_named(fleet)


def test_a_right_that_the_user_lacks_is_named_with_its_remedy_and_logged_a_few_times(
    fleet: RealFleet, vhost: Vhost, node: PrivateNode, topology: Topology
) -> None:
    exchange = topology.exchange
    consumers = next(granted for granted in topology.users if granted.role == "consumer")
    rights = {"configure": "^$", "write": consumers.write, "read": f"^{exchange}\\.(fold\\.[1-3]|shards|gate)$"}
    node.management("PUT", f"/api/permissions/{vhost.name}/{exchange}-consumer", rights)
    node.rabbitmqctl("close_all_connections", "--vhost", vhost.name, "the test")
    await_named(
        fleet,
        "shard 0 is closed: access_refused: ACCESS_REFUSED",
        f"what waits in '{exchange}.waiting' isn't forwarded: access_refused: ACCESS_REFUSED",
        "what the quarantine drops isn't counted: access_refused: ACCESS_REFUSED",
    )
    remedy = "; the fleet takes the consumer's permissions (docs/topology.md, 'Declaring and users')"
    assert sum(line.endswith(remedy) for line in fleet.ready()["degraded"]) == 3

    wait_until(lambda: fleet.totals()["busmon_reconnects_total"] >= 20, "repeated refusals")
    lost = [line for line in fleet.log.read_text().splitlines() if "consumer.channel_lost" in line]
    assert 3 <= sum("access_refused" in line for line in lost) <= 9
