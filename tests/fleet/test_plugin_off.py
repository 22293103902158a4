"""A broker that comes back without its plugin for consistent hashing: `/ready` names the fault while it lasts."""

from pathlib import Path

import pytest
from pika import BasicProperties

from busmon.demo import rabbitmq
from busmon.demo.broker import PrivateNode
from tests.broker.topologies import Client
from tests.patience import wait_until

from .real_fleet import RealFleet

REMEDY = "run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on RabbitMQ's host"
SILENCE = "no answer on the channel"
"""RabbitMQ 3.10 closes the connection, and may take longer over it than a worker waits for an answer."""


def is_named(fleet: RealFleet) -> bool:
    """Tell if `/ready` names the fault."""
    return any(REMEDY in line or SILENCE in line for line in fleet.ready()["degraded"])


def test_a_running_fleet_names_the_fault_until_the_plugin_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PrivateNode(tmp_path / "broker") as node, RealFleet(tmp_path, node.amqp_url) as fleet:
        with monkeypatch.context() as changed:
            changed.setattr(rabbitmq, "PLUGINS", ("rabbitmq_management",))
            node.restart()
        with Client(node.amqp_url) as client:
            client.publish(b"{}", BasicProperties(headers={"source": "waits"}))
        wait_until(lambda: is_named(fleet), "the fault in /ready")
        node.restart()
        wait_until(lambda: fleet.get("/ready")[0] == 200 and not is_named(fleet), "the end of the fault")
        fleet.wait_for_total("busmon_envelopes_rejected_total", 1)
