"""A broker that comes back without its plugin for consistent hashing: `/ready` and the log give the remedy."""

from pathlib import Path

import pytest
from pika import BasicProperties

from busmon.demo import rabbitmq
from busmon.demo.broker import PrivateNode
from tests.broker.topologies import Client
from tests.patience import wait_until

from .real_fleet import RealFleet

REMEDY = "run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on RabbitMQ's host"


def test_a_running_fleet_gives_the_remedy_and_counts_again_with_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PrivateNode(tmp_path / "broker") as node, RealFleet(tmp_path, node.amqp_url) as fleet:
        with monkeypatch.context() as changed:
            changed.setattr(rabbitmq, "PLUGINS", ("rabbitmq_management",))
            node.restart()
        with Client(node.amqp_url) as client:
            client.publish(b"{}", BasicProperties(headers={"source": "waits"}))
        wait_until(lambda: any(REMEDY in line for line in fleet.ready()["degraded"]), "the remedy in /ready")
        wait_until(lambda: REMEDY in fleet.log.read_text(), "the remedy in the log")
        node.restart()
        wait_until(lambda: not any(REMEDY in line for line in fleet.ready()["degraded"]), "the end of the fault")
