"""The effect of a declared topology: a source has its shard, a user its own work, and a refused message a place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pika
import pytest
from pika import BasicProperties

from busmon.bus.operator.quarantine import Quarantine
from busmon.bus.publish.publisher import ConfirmedPublisher
from busmon.bus.topology.declare import declare, ensure
from busmon.bus.topology.topology import load
from busmon.cli import main
from busmon.demo import rabbitmq
from busmon.demo.broker import PrivateNode
from busmon.errors import BrokerRefusedError, TopologyError

from .topologies import ONE_SHARD, PASSWORDS, Client, Place, arguments, as_user, objects, topology_file

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("no_settings")


class TestShards:
    def test_a_sources_bodies_reach_one_shard_in_order(self, vhost: Any, tmp_path: Path) -> None:
        Place.declared(vhost.amqp_url, tmp_path)
        with Client(vhost.amqp_url) as client:
            for number in range(10):
                for source in range(40):
                    client.publish(f"{number}".encode(), BasicProperties(headers={"source": f"source-{source}"}))
            shards = [client.take(f"telemetry.fold.{k}", client.ready(f"telemetry.fold.{k}")) for k in range(4)]
        assert sum(map(len, shards)) == 400
        assert all(shards)
        bodies: dict[tuple[int, str], list[bytes]] = {}
        for shard, taken in enumerate(shards):
            for one in taken:
                bodies.setdefault((shard, one.properties.headers["source"]), []).append(one.body)
        assert len(bodies) == 40
        assert all(inside == [b"%d" % number for number in range(10)] for inside in bodies.values())

    def test_fewer_shards_than_the_broker_has_are_refused(self, vhost: Any, tmp_path: Path) -> None:
        Place.declared(vhost.amqp_url, tmp_path)
        fewer = load(topology_file(tmp_path, ("shards = 4", "shards = 2")), "telemetry")
        refused = pytest.raises(TopologyError, match=r"^queue 'telemetry\.fold\.2' exists, but .* has shards = 2")
        with refused:
            declare(fewer, vhost.amqp_url, None, {})
        with refused:
            ensure(fewer, vhost.amqp_url)

    def test_more_shards_than_the_broker_has_are_for_an_operator_to_declare(self, vhost: Any, tmp_path: Path) -> None:
        Place.declared(vhost.amqp_url, tmp_path, ("shards = 4", "shards = 2"))
        four = load(None, "telemetry")
        said = r"'telemetry\.fold\.2' is missing, but other shards exist: run `busmon topology declare`"
        with pytest.raises(TopologyError, match=said):
            ensure(four, vhost.amqp_url)
        declare(four, vhost.amqp_url, None, {})
        assert ensure(four, vhost.amqp_url) == []

    def test_going_from_one_shard_to_four_delivers_nothing_twice(self, vhost: Any, tmp_path: Path) -> None:
        Place.declared(vhost.amqp_url, tmp_path, ONE_SHARD)
        Place.declared(vhost.amqp_url, tmp_path)
        with Client(vhost.amqp_url) as client:
            for source in range(20):
                client.publish(b"{}", BasicProperties(headers={"source": f"{source}"}))
            assert sum(client.ready(f"telemetry.fold.{shard}") for shard in range(4)) == 20

    def test_going_from_two_shards_to_one_takes_what_check_and_declare_say(
        self, vhost: Any, tmp_path: Path, capsys: Capture
    ) -> None:
        Place.declared(vhost.amqp_url, tmp_path, ("shards = 4", "shards = 2"))
        with Client(vhost.amqp_url) as client:
            client.channel.queue_delete("telemetry.fold.1")
        Place.declared(vhost.amqp_url, tmp_path, ONE_SHARD)
        capsys.readouterr()
        with Client(vhost.amqp_url) as client:
            client.publish(b"{}", BasicProperties(headers={"source": "a"}))
            assert client.ready("telemetry.fold.0") == 1

    def test_without_the_plugin_both_ways_out_are_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.setattr(rabbitmq, "PLUGINS", ("rabbitmq_management",))
        with PrivateNode(tmp_path / "broker") as bare:
            assert main(["topology", "declare", *arguments(bare)]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert "`rabbitmq-plugins enable rabbitmq_consistent_hash_exchange`" in line
            assert "shards = 1" in line
            # RabbitMQ 4 lists an exclusive queue for a moment longer than its connection.
            with Client(bare.amqp_url) as client:
                client.until(lambda: objects(bare, "%2F") == set(), "nothing to be left")
            with pytest.raises(TopologyError, match="rabbitmq_consistent_hash_exchange"):
                ensure(load(None, "telemetry"), bare.amqp_url)
            assert objects(bare, "%2F") == set()

            one = topology_file(tmp_path, ONE_SHARD)
            assert main(["topology", "declare", *arguments(bare), "--topology", str(one)]) == 0
            with Client(bare.amqp_url) as client:
                client.publish(b"{}", BasicProperties())
                assert client.ready("telemetry.fold.0") == 1


class TestPermissions:
    """Least privilege: each user does its own work, and none of the others'."""

    @pytest.fixture
    def declared(self, vhost: Any, exchange: str) -> str:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        return exchange

    def test_a_publisher_writes_to_the_telemetry_exchange_and_no_more(self, vhost: Any, declared: str) -> None:
        with Client(as_user(vhost, f"{declared}-publisher", "p-secret")) as client:
            client.publish(b"{}", BasicProperties(headers={"source": "a"}), exchange=declared)
            self.refuses(client, lambda channel: channel.basic_publish(f"{declared}.quarantine", "", b"{}"))
            self.refuses(client, lambda channel: channel.basic_publish("", f"{declared}.fold.0", b"{}"))
            self.refuses(client, lambda channel: channel.basic_consume(f"{declared}.fold.0", print))
            self.refuses(client, lambda channel: channel.queue_declare("mine"))

    def test_who_lacks_a_permission_is_told_what_it_takes(self, vhost: Any, declared: str) -> None:
        publisher = as_user(vhost, f"{declared}-publisher", "p-secret")
        with (
            Quarantine(publisher, load(None, declared)) as quarantine,
            pytest.raises(BrokerRefusedError, match=r"the quarantine takes an operator's permissions$"),
        ):
            quarantine.delete_all()
        publishing = ConfirmedPublisher(publisher, "test")
        with pytest.raises(BrokerRefusedError, match=r"publishing takes the right to write to it$"):
            publishing.publish(f"{declared}.quarantine", "", b"{}", BasicProperties())
        publishing.close()

    def test_a_consumer_reads_its_queues_and_writes_to_gate_and_quarantine(self, vhost: Any, declared: str) -> None:
        with Client(as_user(vhost, f"{declared}-consumer", "c-secret")) as client:
            client.channel.basic_consume(f"{declared}.fold.3", print)
            client.channel.basic_consume(f"{declared}.quarantine.dropped", print)
            client.channel.basic_consume(f"{declared}.waiting", print)
            client.publish(b"{}", BasicProperties(), exchange=f"{declared}.quarantine")
            client.publish(b"{}", BasicProperties(), exchange=f"{declared}.gate")
            client.channel.queue_declare(f"{declared}.shards", exclusive=True)
            client.channel.queue_bind(f"{declared}.fold.0", f"{declared}.shards", "1")
            client.channel.exchange_bind(f"{declared}.shards", f"{declared}.gate")
            self.refuses(client, lambda channel: channel.basic_publish(declared, "", b"{}"))
            self.refuses(client, lambda channel: channel.basic_get(f"{declared}.quarantine"))
            self.refuses(client, lambda channel: channel.queue_purge(f"{declared}.quarantine"))
            self.refuses(client, lambda channel: channel.queue_delete(f"{declared}.fold.0"))
            self.refuses(client, lambda channel: channel.exchange_delete(f"{declared}.gate"))
            self.refuses(client, lambda channel: channel.exchange_unbind(f"{declared}.gate", declared, "#"))
            self.refuses(client, lambda channel: channel.exchange_declare("mine"))

    def test_an_operator_has_the_topology_and_nothing_else(self, vhost: Any, declared: str) -> None:
        with Client(vhost.amqp_url) as client:
            client.channel.queue_declare("foreign", durable=True)
        with Client(as_user(vhost, f"{declared}-operator", "o-secret")) as client:
            client.publish(b"{}", BasicProperties(headers={"source": "a"}), exchange=declared)
            client.channel.basic_get(f"{declared}.quarantine")
            self.refuses(client, lambda channel: channel.basic_get("foreign"))
            self.refuses(client, lambda channel: channel.queue_delete("foreign"))

    @staticmethod
    def refuses(client: Client, operation: Any) -> None:
        """The broker closes a channel of its own for it, with 403."""
        channel = client.other_channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            operation(channel)
        assert refused.value.reply_code == 403


class TestGuarantees:
    def test_a_rejected_body_reaches_quarantine(self, vhost: Any, tmp_path: Path) -> None:
        Place.declared(vhost.amqp_url, tmp_path, ONE_SHARD)
        with Client(vhost.amqp_url) as client:
            client.publish(b"bad", BasicProperties())
            client.reject("telemetry.fold.0")
            client.until_ready("telemetry.quarantine", 1)
            (taken,) = client.take("telemetry.quarantine")
        assert taken.body == b"bad"
        assert taken.properties.headers["x-first-death-reason"] == "rejected"

    def test_a_full_quarantine_drops_its_oldest_where_it_can_be_counted(self, vhost: Any, tmp_path: Path) -> None:
        Place.declared(vhost.amqp_url, tmp_path, ("x-max-length = 10_000", "x-max-length = 3"))
        with Client(vhost.amqp_url) as client:
            for number in range(5):
                client.publish(b"%d" % number, BasicProperties(), exchange="telemetry.quarantine")
            client.until_ready("telemetry.quarantine.dropped", 2)
            assert [taken.body for taken in client.take("telemetry.quarantine.dropped", 2)] == [b"0", b"1"]
            assert [taken.body for taken in client.take("telemetry.quarantine", 3)] == [b"2", b"3", b"4"]
