"""The project's own broker: alone on its ports, on 127.0.0.1 only, and gone however its owner goes."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pika
import pytest

from busmon.demo import rabbitmq
from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import Address
from busmon.errors import BrokerUnreachableError, BusError, UserError
from tests.patience import wait_until

OWNER = """
import sys, time
from pathlib import Path
from busmon.demo.broker import PrivateNode
print("starting", flush=True)
PrivateNode(Path(sys.argv[1])).start()
print("up", flush=True)
time.sleep(600)
"""


def processes_of(directory: Path) -> list[str]:
    """The command lines of the processes whose home is this directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={directory}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def listening(ports: set[int]) -> dict[int, set[str]]:
    """By port, the addresses on which something listens, as /proc/net prints them."""
    found: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(port, 16) in ports:
                found.setdefault(int(port, 16), set()).add(address)
    return found


def ports_of(address: Address) -> set[int]:
    return {address.amqp_port, address.management_port, address.distribution_port, address.epmd_port}


def queues(url: str, declare: str | None = None) -> pika.BlockingConnection:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    if declare:
        connection.channel().queue_declare(declare, durable=True, arguments={"x-queue-type": "quorum"})
    return connection


def test_every_listener_is_on_the_loopback_interface_alone(node: PrivateNode) -> None:
    loopback = {"0100007F", "00000000000000000000000001000000"}
    found = listening(ports_of(node.address))
    assert found.keys() == ports_of(node.address)
    assert set().union(*found.values()) <= loopback


def test_rabbitmqctl_and_the_management_api_speak_to_this_very_node(node: PrivateNode) -> None:
    assert node.address.name in node.rabbitmqctl("eval", "node().")
    assert node.address.name in node.management("GET", "/api/overview").decode()
    with pytest.raises(BusError, match="rabbitmqctl list_queues: "):
        node.rabbitmqctl("list_queues", "--nonsense")
    with pytest.raises(BusError, match="404"):
        node.management("GET", "/api/queues/%2F/nowhere")


def test_a_node_comes_up_beside_another_whatever_the_environment_says(
    node: PrivateNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_NODENAME", node.address.name)
    monkeypatch.setenv("RABBITMQ_NODE_PORT", str(node.amqp_port))
    monkeypatch.setenv("RABBITMQ_CONFIG_FILE", "/nowhere/at all")
    monkeypatch.setenv("ERL_EPMD_PORT", str(node.address.epmd_port))
    monkeypatch.setenv("ERL_FLAGS", "-nonsense")
    directory = tmp_path / "a path with spaces"
    with PrivateNode(directory) as other:
        assert not ports_of(other.address) & ports_of(node.address)
        queues(other.amqp_url, declare="only-here").close()
        assert "only-here" in other.management("GET", "/api/queues").decode()
        assert "only-here" not in node.management("GET", "/api/queues").decode()
        assert (directory / ".erlang.cookie").stat().st_mode & 0o777 == 0o400
        address = other.address
    assert wait_until(lambda: not processes_of(directory))
    assert not listening(ports_of(address))


def test_a_killed_node_comes_back_on_its_ports_with_what_it_confirmed(dedicated_node: PrivateNode) -> None:
    address = dedicated_node.address
    connection = queues(dedicated_node.amqp_url, declare="kept")
    channel = connection.channel()
    channel.confirm_delivery()
    for body in (b"one", b"two"):
        channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2), mandatory=True)
    connection.close()
    # RabbitMQ forgets the leader of a queue that was declared some milliseconds before a kill.
    assert wait_until(lambda: b'"messages":2' in dedicated_node.management("GET", "/api/queues/%2F/kept"))

    dedicated_node.restart()

    assert dedicated_node.address == address
    connection = queues(dedicated_node.amqp_url)
    channel = connection.channel()
    assert [channel.basic_get("kept", auto_ack=True)[2] for _ in range(2)] == [b"one", b"two"]
    connection.close()


@pytest.mark.parametrize(
    ("moment", "number"), [("starting", signal.SIGTERM), ("starting", signal.SIGINT), ("up", signal.SIGKILL)]
)
def test_a_node_ends_with_its_owner_however_that_ends(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    directory = tmp_path / "broker"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout
        while owner.stdout.readline().strip() != moment:
            assert owner.poll() is None
        assert wait_until(lambda: any("beam" in command for command in processes_of(directory)))
        owner.send_signal(number)
    assert wait_until(lambda: not processes_of(directory))


def test_a_node_lives_until_the_last_one_who_joined_it_leaves(dedicated_node: PrivateNode) -> None:
    other = PrivateNode(dedicated_node.directory)
    assert other.join()
    assert other.address == dedicated_node.address
    dedicated_node.leave()
    queues(other.amqp_url).close()
    other.leave()
    assert wait_until(lambda: not processes_of(dedicated_node.directory))
    assert wait_until(lambda: not can_be_joined(dedicated_node.directory))


def can_be_joined(directory: Path) -> bool:
    visitor = PrivateNode(directory)
    joined = visitor.join()
    visitor.leave()
    return joined


def test_a_port_that_another_program_takes_first_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = dataclasses.replace(Address.choose(), epmd_port=taken.getsockname()[1])
        offered = iter([first, Address.choose()])
        monkeypatch.setattr(Address, "choose", lambda: next(offered))
        with PrivateNode(tmp_path / "broker") as node:
            assert node.address.epmd_port != first.epmd_port


def test_a_failed_start_is_one_line_with_its_reason_and_leaves_nothing(tmp_path: Path) -> None:
    cookie = tmp_path / "broker" / ".erlang.cookie"
    cookie.parent.mkdir()
    cookie.write_text("secret")
    cookie.chmod(0o644)
    with pytest.raises(BrokerUnreachableError, match="must be accessible by owner only") as raised:
        PrivateNode(cookie.parent).start()
    assert "\n" not in str(raised.value)
    assert str(cookie.parent / "log") in str(raised.value)
    assert wait_until(lambda: not processes_of(cookie.parent))


def test_a_missing_rabbitmq_is_one_line_that_names_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "SCRIPT_DIRECTORIES", ())
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(UserError, match=r"install RabbitMQ, or set BUSMON_AMQP_URL"):
        PrivateNode(tmp_path / "broker").start()
