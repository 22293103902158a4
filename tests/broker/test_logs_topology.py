"""`busmon topology` with replication: logs that only `declare` begins, once, and rights that go no further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pika.exceptions import ChannelClosedByBroker

from busmon.bus.topology.declare import declare, ensure
from busmon.bus.topology.topology import Topology, load
from busmon.cli import main
from busmon.errors import TopologyError
from busmon.fleet.worker.kind import require_kind
from busmon.replication.records import Marker, encode, make_birth
from busmon.settings import Settings

from .topologies import PASSWORDS, Client, arguments, as_user

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("no_settings")

REPLICATED = load(None, "telemetry", "stream")


@pytest.fixture
def client(vhost: Any) -> Iterator[Client]:
    with Client(vhost.amqp_url) as client:
        yield client


def read(client: Client, stream: str, count: int) -> list[bytes]:
    """Read the first records of a log."""
    channel = client.other_channel()
    found: list[bytes] = []
    channel.basic_qos(prefetch_count=count)
    channel.basic_consume(stream, lambda *parts: found.append(parts[-1]), arguments={"x-stream-offset": "first"})
    client.until(lambda: len(found) == count, f"{count} records in {stream}")
    return found


def test_declares_a_log_for_each_shard_and_check_then_finds_nothing(
    vhost: Any, exchange: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture, client: Client
) -> None:
    for role, password in PASSWORDS.items():
        monkeypatch.setenv(f"BUSMON_{role.upper()}_PASSWORD", password)
    with_logs = [*arguments(vhost, exchange), "--replication", "stream"]
    assert main(["topology", "declare", *with_logs]) == 0
    said = capsys.readouterr().out.splitlines()
    for shard in range(4):
        assert f"queue '{exchange}.log.{shard}': declared" in said
        assert f"log '{exchange}.log.{shard}': begun" in said
    assert main(["topology", "check", *with_logs]) == 0
    assert capsys.readouterr().out == f"no difference in virtual host '{vhost.name}'\n"
    firsts = {read(client, f"{exchange}.log.{shard}", 1)[0] for shard in range(4)}
    assert len(firsts) == 4
    assert {len(first) for first in firsts} == {len(make_birth("0" * 32))}


def test_a_second_declare_leaves_the_first_record(vhost: Any, client: Client) -> None:
    declare(REPLICATED, vhost.amqp_url, None, {})
    first = read(client, "telemetry.log.0", 1)
    again = declare(REPLICATED, vhost.amqp_url, None, {})
    assert read(client, "telemetry.log.0", 1) == first
    assert "queue 'telemetry.log.0': was there" in again
    assert not [line for line in again if line.startswith("log ")]


def test_a_log_that_lost_its_first_records_to_retention_is_no_mistake(vhost: Any, client: Client) -> None:
    declare(REPLICATED, vhost.amqp_url, None, {})
    client.channel.queue_delete("telemetry.log.1")
    client.channel.queue_declare("telemetry.log.1", durable=True, arguments=dict(REPLICATED.logs[1].arguments))
    client.channel.queue_bind("telemetry.log.1", "telemetry.log", "1")
    marker = encode(Marker("log", 7, "owner", "host"))
    client.channel.basic_publish("telemetry.log", "1", marker, mandatory=True)
    declare(REPLICATED, vhost.amqp_url, None, {})


def test_a_stream_of_another_program_is_named(vhost: Any, client: Client) -> None:
    client.channel.queue_declare("telemetry.log.0", durable=True, arguments=dict(REPLICATED.logs[0].arguments))
    client.channel.exchange_declare("telemetry.log", "direct", durable=True)
    client.channel.queue_bind("telemetry.log.0", "telemetry.log", "0")
    client.channel.basic_publish("telemetry.log", "0", b"hello", mandatory=True)
    with pytest.raises(TopologyError, match=r"^log 'telemetry.log.0': an entry of the log isn't as busmon writes it$"):
        declare(REPLICATED, vhost.amqp_url, None, {})


def test_a_stream_without_a_first_record_is_named_each_time(vhost: Any, client: Client) -> None:
    declare(REPLICATED, vhost.amqp_url, None, {})
    client.channel.queue_delete("telemetry.log.2")
    client.channel.queue_declare("telemetry.log.2", durable=True, arguments=dict(REPLICATED.logs[2].arguments))
    said = (
        "log 'telemetry.log.2' exists without its first record, so no host can read it: run `rabbitmqctl delete_queue "
        f"-p {vhost.name} telemetry.log.2`, then `busmon topology declare`, which makes it again"
    )
    for _ in range(2):
        with pytest.raises(TopologyError) as caught:
            declare(REPLICATED, vhost.amqp_url, None, {})
        assert str(caught.value) == said
    client.channel.queue_delete("telemetry.log.2")
    assert "log 'telemetry.log.2': begun" in declare(REPLICATED, vhost.amqp_url, None, {})


def test_a_log_with_other_limits_is_named(vhost: Any, client: Client) -> None:
    other = {**REPLICATED.logs[0].arguments, "x-max-length-bytes": 500_000_000}
    client.channel.queue_declare("telemetry.log.0", durable=True, arguments=other)
    with pytest.raises(TopologyError, match="x-max-length-bytes is 500000000 on the broker, but 1073741824 in"):
        declare(REPLICATED, vhost.amqp_url, None, {})


def test_up_never_makes_a_log_and_names_the_command_that_does(vhost: Any, client: Client) -> None:
    declare(load(None, "telemetry"), vhost.amqp_url, None, {})
    said = "run `busmon topology declare` as an operator, with BUSMON_REPLICATION=stream"
    with pytest.raises(TopologyError) as caught:
        ensure(REPLICATED, vhost.amqp_url)
    assert str(caught.value) == f"log 'telemetry.log.0' is missing: {said}"
    declare(REPLICATED, vhost.amqp_url, None, {})
    assert ensure(REPLICATED, vhost.amqp_url) == []
    client.channel.queue_delete("telemetry.log.3")
    with pytest.raises(TopologyError, match=r"^log 'telemetry.log.3' is missing: "):
        ensure(REPLICATED, vhost.amqp_url)


def test_without_replication_a_log_that_exists_is_refused(vhost: Any, tmp_path: Path) -> None:
    declare(REPLICATED, vhost.amqp_url, None, {})
    with pytest.raises(TopologyError, match=r"^log 'telemetry.log.0' exists, but replication is off: "):
        ensure(load(None, "telemetry"), vhost.amqp_url)
    with pytest.raises(TopologyError, match=r"^log 'telemetry.log.0' exists, but replication is off: "):
        require_kind(Settings(registry_dir=tmp_path, amqp_url=vhost.amqp_url))


def test_a_worker_alone_needs_the_logs_of_its_kind(vhost: Any, tmp_path: Path) -> None:
    settings = Settings(registry_dir=tmp_path, amqp_url=vhost.amqp_url, replication="stream")
    with pytest.raises(TopologyError, match=r"^log 'telemetry.log.0' is missing: "):
        require_kind(settings)
    declare(REPLICATED, vhost.amqp_url, None, {})
    require_kind(settings)


class TestRights:
    @pytest.fixture
    def topology(self, vhost: Any, exchange: str) -> Topology:
        topology = load(None, exchange, "stream")
        declare(topology, vhost.amqp_url, vhost.management_url, PASSWORDS)
        return topology

    def client_of(self, vhost: Any, topology: Topology, role: str) -> Client:
        return Client(as_user(vhost, f"{topology.exchange}-{role}", PASSWORDS[role]))

    def test_the_fleets_user_is_enough_for_up_and_reads_and_appends(self, vhost: Any, topology: Topology) -> None:
        assert ensure(topology, as_user(vhost, f"{topology.exchange}-consumer", PASSWORDS["consumer"])) == []
        with self.client_of(vhost, topology, "consumer") as fleet:
            fleet.channel.basic_publish(topology.log_exchange, "0", b"record", mandatory=True)
            assert read(fleet, topology.log_stream(0), 2)[1] == b"record"

    @pytest.mark.parametrize("role", ["consumer", "publisher"])
    def test_nobody_but_an_operator_deletes_a_log(self, vhost: Any, topology: Topology, role: str) -> None:
        with self.client_of(vhost, topology, role) as client:
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                client.channel.queue_delete(topology.log_stream(0))
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                client.other_channel().basic_publish("", topology.log_stream(0), b"forged", mandatory=True)

    def test_an_agent_neither_writes_to_a_log_nor_reads_one(self, vhost: Any, topology: Topology) -> None:
        with self.client_of(vhost, topology, "publisher") as agent:
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                agent.channel.basic_publish(topology.log_exchange, "0", b"forged", mandatory=True)
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                read(agent, topology.log_stream(0), 1)


def test_check_names_a_policy_that_shrinks_a_log_of_a_broker(vhost: Any, node: PrivateNode, capsys: Capture) -> None:
    declare(REPLICATED, vhost.amqp_url, None, {})
    policy = {"pattern": r"\.log\.1$", "definition": {"max-length-bytes": 50_000_000}, "apply-to": "queues"}
    node.management("PUT", f"/api/policies/{vhost.name}/short", policy)
    assert main(["topology", "check", *arguments(vhost), "--replication", "stream"]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("note: user ")]
    assert said == ["log 'telemetry.log.1': policy 'short' sets max-length-bytes to 50000000, should be 1073741824"]
