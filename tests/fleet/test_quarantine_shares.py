"""On a real broker: a flood of one user's invalid bodies leaves others' in the quarantine, and the log short."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from busmon.bus.operator.quarantine import Quarantine
from busmon.bus.topology.topology import find_built_in
from busmon.demo.broker import PrivateNode
from busmon.fleet.worker.paced_log import LINES
from busmon.fleet.worker.quarantine_shares import LEAST_BODIES
from tests.broker.topologies import Client
from tests.conftest import Vhost
from tests.fleet.users import Publisher, Users, users
from tests.patience import wait_until

FLOOD = 300


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """The shipped topology with a quarantine of 200 bodies."""
    path = tmp_path / "telemetry.toml"
    text = find_built_in().read_text()
    assert text.count("x-max-length = 10_000\n") == 1
    path.write_text(text.replace("x-max-length = 10_000\n", "x-max-length = 200\n"))
    return path


@pytest.fixture
def made(node: PrivateNode, vhost: Vhost, tmp_path: Path, topology: Path) -> Iterator[Users]:
    with users(node, vhost, tmp_path, topology) as made:
        yield made


def test_a_flood_of_invalid_bodies_takes_its_users_share_and_no_more(made: Users, topology: Path) -> None:
    victim, greedy = f"{made.exchange}-publisher", made.add_publisher("greedy")
    headers = {"source": "one"}
    with made.fleet(BUSMON_TOPOLOGY=str(topology)) as fleet:
        with Publisher(made, victim) as honest, Publisher(made, greedy) as attacker:
            honest.publish(b'{"v": 1,', message_id="honest:1", headers=headers)
            for number in range(FLOOD):
                attacker.publish(b"{", message_id=f"flood:{number}", headers=headers)
            honest.publish(b'{"v": 1,', message_id="honest:2", headers=headers)
        fleet.wait_for_total("busmon_envelopes_rejected_total", FLOOD + 2)
        fleet.wait_for_total("busmon_quarantine_discarded_total", FLOOD - LEAST_BODIES)

        def quarantined() -> list[str]:
            command = [*fleet.command("quarantine", "list", "--json"), "--topology", str(topology)]
            environment = made.environment(f"{made.exchange}-operator")
            ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60)
            return [body["id"] for body in json.loads(ran.stdout)["bodies"]]

        wait_until(lambda: len(quarantined()) == LEAST_BODIES + 2, "the bodies in the quarantine")
        assert {"honest:1", "honest:2"} <= {*quarantined()}
        assert fleet.totals()["busmon_quarantine_dropped_total"] == 0
        assert fleet.stop() == 0
    lines = [json.loads(line) for line in fleet.log.read_text().splitlines() if "lane." in line]
    by_user = [(line["event"], line["user"].rpartition("-")[2]) for line in lines]
    counted = {each: by_user.count(each) for each in by_user}
    assert counted[("lane.quarantined", "publisher")] == 2
    assert counted[("lane.quarantined", "greedy")] == LINES
    assert counted[("lane.discarded", "greedy")] == LINES
    left_out = sum(line["lines"] for line in lines if line["event"] == "lane.lines_left_out")
    assert left_out == FLOOD - 2 * LINES


def test_a_replay_that_finds_no_ring_returns_though_its_users_share_is_spent(
    made: Users, topology: Path, vhost: Vhost
) -> None:
    greedy = f"{made.exchange}-publisher"
    with made.fleet(BUSMON_TOPOLOGY=str(topology)) as fleet, Client(vhost.amqp_url) as client:
        with Publisher(made, greedy) as attacker:
            for number in range(LEAST_BODIES + 5):
                attacker.publish(b"{", message_id=f"flood:{number}", headers={"source": "one"})
        fleet.wait_for_total("busmon_quarantine_discarded_total", 5)
        quarantine = f"{made.exchange}.quarantine"
        client.until_ready(quarantine, LEAST_BODIES)
        client.channel.exchange_delete(f"{made.exchange}.shards")
        with Quarantine(made.url(f"{made.exchange}-operator"), made.topology) as opened:
            assert sum(step.settled for step in opened.replay(lambda _: True)) == LEAST_BODIES
        fleet.wait_for_total("busmon_envelopes_rejected_total", 2 * LEAST_BODIES + 5)
        client.until_ready(quarantine, LEAST_BODIES)
        wait_until(lambda: fleet.totals()["busmon_envelopes_forwarded_total"] > 0, "the replays that waited")
        assert fleet.totals()["busmon_quarantine_discarded_total"] == 5


def test_a_share_is_charged_once_for_bodies_whose_channel_is_lost_before_they_are_in_quarantine(
    made: Users, topology: Path, node: PrivateNode, vhost: Vhost
) -> None:
    greedy, quarantine = made.add_publisher("greedy"), f"{made.exchange}.quarantine"
    with _channel(vhost) as channel:
        channel.queue_unbind(quarantine, quarantine, "")  # the quarantine's exchange returns each body
    with made.fleet(BUSMON_TOPOLOGY=str(topology)) as fleet:
        with Publisher(made, greedy) as attacker:
            for number in range(LEAST_BODIES):
                attacker.publish(b"{", message_id=f"bad:{number}", headers={"source": "one"})
        fleet.wait_for_total("busmon_envelopes_rejected_total", LEAST_BODIES)
        node.rabbitmqctl("close_all_connections", "--vhost", vhost.name, "the test")
        fleet.wait_for_total("busmon_envelopes_rejected_total", 2 * LEAST_BODIES)
        with _channel(vhost) as channel:
            channel.queue_bind(quarantine, quarantine, "")
            wait_until(
                lambda: channel.queue_declare(quarantine, passive=True).method.message_count == LEAST_BODIES,
                "the bodies in the quarantine",
            )
        assert fleet.totals().get("busmon_quarantine_discarded_total", 0) == 0
        assert fleet.stop() == 0


@contextmanager
def _channel(vhost: Vhost) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(vhost.amqp_url))
    yield connection.channel()
    connection.close()
