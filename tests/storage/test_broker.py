import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.exceptions import AMQPConnectionError

from busmon.demo.rabbitmq import Address, environment, epmd, free_ports, script, write_files
from tests.patience import wait_until
from tests.storage.servers import DOCKER

PASSWORDS = {f"BUSMON_{user}_PASSWORD": user.lower() for user in ("PUBLISHER", "CONSUMER", "OPERATOR")}


def can_open(port: int, user: str, password: str) -> bool:
    parameters = pika.ConnectionParameters("127.0.0.1", port, credentials=pika.PlainCredentials(user, password))
    try:
        pika.BlockingConnection(parameters).close()
    except AMQPConnectionError:
        return False
    return True


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A RabbitMQ with the shipped configuration, plugins and exported definitions; its AMQP port."""
    address = Address.choose()
    (metrics,) = free_ports(1)
    write_files(tmp_path, address)
    shutil.copy(DOCKER / "rabbitmq/enabled_plugins", tmp_path)
    definitions = tmp_path / "definitions.json"
    export = [sys.executable, "-P", "-m", "busmon", "topology", "export", "--output", str(definitions)]
    subprocess.run(export, env={**os.environ, **PASSWORDS}, check=True)
    shipped = (DOCKER / "rabbitmq/rabbitmq.conf").read_text().replace("/definitions/definitions.json", str(definitions))
    ports = {"listeners.tcp.1": address.amqp_port, "management.tcp.port": address.management_port}
    lines = [f"{key} = 127.0.0.1:{at}" if "listeners" in key else f"{key} = {at}" for key, at in ports.items()]
    (tmp_path / "shipped.conf").write_text("\n".join([shipped, *lines, f"prometheus.tcp.port = {metrics}", ""]))
    variables = environment(tmp_path, address) | {"RABBITMQ_CONFIG_FILE": str(tmp_path / "shipped.conf")}
    mapper = subprocess.Popen([epmd(), "-address", "127.0.0.1", "-port", str(address.epmd_port)], env=variables)
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(
            [script("rabbitmq-server")], env=variables, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True
        )
    try:
        yield address.amqp_port
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
        mapper.kill()
        mapper.wait()


def test_the_shipped_broker_knows_the_exported_users_and_no_guest(port: int) -> None:
    wait_until(lambda: can_open(port, "telemetry-publisher", "publisher"), "the agents' user to be let in")

    assert can_open(port, "telemetry-consumer", "consumer")
    assert not can_open(port, "guest", "guest")


def test_the_shipped_broker_has_the_shards_queues(port: int) -> None:
    wait_until(lambda: can_open(port, "telemetry-operator", "operator"), "the operator to be let in")
    credentials = pika.PlainCredentials("telemetry-operator", "operator")
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, credentials=credentials)) as connection:
        declared = connection.channel().queue_declare("telemetry.fold.0", passive=True)

    assert declared.method.message_count == 0
