"""Several addresses, one of which accepts connections and never answers: everybody reaches the broker by another."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pika
import pytest

from busmon import Telemetry
from busmon.bus.connect.session import Session
from busmon.bus.publish.publisher import ConfirmedPublisher
from busmon.bus.topology.management import Management
from busmon.errors import BrokerUnreachableError

from .consuming import Operator, Running, close_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from busmon.demo.broker import PrivateNode

    from .topologies import Place

QUICK = "?socket_timeout=0.2&stack_timeout=0.2"


@pytest.fixture
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def urls(vhost: Any, node: PrivateNode, silent: int) -> str:
    """Four silent addresses and the broker's, so that nearly every random order meets a silent one first."""
    silent_urls = [
        vhost.amqp_url.replace(f"127.0.0.1:{node.amqp_port}", f"127.0.0.{number}:{silent}") for number in range(1, 5)
    ]
    # Of these only the first is silent: nobody listens on the others.
    return ",".join(f"{url}{QUICK}" for url in [*silent_urls, vhost.amqp_url])


def test_a_consumer_reaches_the_broker_that_answers(urls: str, operator: Operator, queue: str) -> None:
    operator.publish(queue, b"1")
    with Running(urls, queue) as running:
        running.until_consuming()
        (delivery,) = running.until_delivered(1)
        assert delivery.body == b"1"
        running.settle_all()
    operator.until_ready(queue, 0)


def test_a_connection_that_is_lost_comes_back_by_any_address(
    urls: str, node: PrivateNode, vhost: Any, operator: Operator, queue: str
) -> None:
    with Running(urls, queue) as running:
        running.until_consuming()
        close_connection(node, vhost.name, "test consumer")
        running.until(lambda: running.heard.states[queue].count("consuming") > 1)
        operator.publish(queue, b"1")
        running.until_delivered(1)


def test_a_session_and_a_publisher_reach_the_broker_that_answers(urls: str, operator: Operator, queue: str) -> None:
    with Session(urls, "test") as session:
        assert session.has_queue(queue)
    publisher = ConfirmedPublisher(urls, "test")
    publisher.publish("", queue, b"1", properties())
    assert publisher.user_id == "guest"
    publisher.close()
    operator.until_ready(queue, 1)


def properties() -> pika.BasicProperties:

    return pika.BasicProperties(delivery_mode=2, message_id="one:1")


def test_the_sdk_and_commands_reach_the_broker_that_answers(urls: str, place: Place, vhost: Any) -> None:
    with Telemetry("agent", urls, lifecycle=False) as telemetry:
        telemetry.counter("tasks_processed_total", labelnames=["agent", "status"]).labels("agent", "success").inc()
        assert telemetry.flush(30)
    command = [sys.executable, "-P", "-m", "busmon", "topology", "check"]
    environment = {
        "PATH": "",
        "BUSMON_AMQP_URL": urls,
        "BUSMON_TOPOLOGY": str(place.path),
        "BUSMON_MANAGEMENT_URL": vhost.management_url,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.stderr
    assert done.returncode in {0, 1}, done.stdout


def test_where_no_address_answers_the_command_says_so_of_each(silent: int) -> None:
    urls = f"amqp://u:hunter2@127.0.0.1:{silent}/{QUICK},amqp://u:hunter2@127.0.0.2:{silent}/{QUICK}"
    command = [sys.executable, "-P", "-m", "busmon", "topology", "declare", "--amqp-url", urls]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert f"at 127.0.0.1:{silent}: no answer to the AMQP handshake in time" in line
    assert f"at 127.0.0.2:{silent}: Connection refused" in line
    assert "hunter2" not in line


def test_the_management_api_of_another_node_answers(vhost: Any, silent: int) -> None:
    closed = vhost.management_url.replace("127.0.0.1", "127.0.0.9")
    found = Management(f"{closed},{vhost.management_url}")
    assert found.get("vhosts", vhost.name)["name"] == vhost.name
    assert json.dumps(found.get("vhosts", "nowhere")) == "null"
    with pytest.raises(BrokerUnreachableError, match=r"^management API at 127\.0\.0\.9:\d+: .*; management API at "):
        Management(f"{closed},http://u:p@127.0.0.8:{silent}").get("overview")
