"""`busmon topology` against a real broker, and what the declared topology then does."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pika
import pytest
from pika import BasicProperties

from busmon.bus.connection import open_blocking
from busmon.bus.declare import declare, ensure
from busmon.bus.topology import load
from busmon.cli import main
from busmon.demo import rabbitmq
from busmon.demo.broker import PrivateNode
from busmon.errors import BrokerRefusedError, BusError, TopologyError

from .topologies import Client, Place, topology_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]

ONE_SHARD = ("shards = 4", "shards = 1")
PASSWORDS = {"publisher": "p-secret", "consumer": "c-secret", "operator": "o-secret"}


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("AMQP_URL", "MANAGEMENT_URL", "EXCHANGE", "TOPOLOGY", "CONFIG"):
        monkeypatch.delenv(f"BUSMON_{variable}", raising=False)
    for role in PASSWORDS:
        monkeypatch.delenv(f"BUSMON_{role.upper()}_PASSWORD", raising=False)


@pytest.fixture
def exchange(node: PrivateNode) -> Iterator[str]:
    """An exchange's name that no other test has, since users are the whole broker's; its users are deleted."""
    name = f"telemetry-{secrets.token_hex(6)}"
    yield name
    for role in PASSWORDS:
        with suppress(BusError):
            node.management("DELETE", f"/api/users/{name}-{role}")


def arguments(place: Any, exchange: str = "telemetry") -> list[str]:
    return ["--amqp-url", place.amqp_url, "--management-url", place.management_url, "--exchange", exchange]


def as_user(place: Any, user: str, password: str) -> str:
    return str(place.amqp_url.replace("guest:guest", f"{user}:{password}"))


class TestDeclare:
    def test_declares_everything_and_check_then_finds_nothing(
        self, vhost: Any, exchange: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        for role, password in PASSWORDS.items():
            monkeypatch.setenv(f"BUSMON_{role.upper()}_PASSWORD", password)
        assert main(["topology", "declare", *arguments(vhost, exchange)]) == 0
        out = capsys.readouterr().out
        assert f"queue '{exchange}.fold.3': declared" in out
        assert f"user '{exchange}-operator': permissions set in virtual host '{vhost.name}'" in out
        assert main(["topology", "check", *arguments(vhost, exchange)]) == 0
        assert capsys.readouterr().out == f"no difference in virtual host '{vhost.name}'\n"

    def test_declaring_again_changes_nothing(self, vhost: Any, exchange: str) -> None:
        topology = load(None, exchange)
        first = declare(topology, vhost.amqp_url, vhost.management_url, PASSWORDS)
        again = declare(topology, vhost.amqp_url, vhost.management_url, PASSWORDS)
        assert again == [line.replace(": declared", ": was there") for line in first]

    def test_a_user_that_exists_keeps_its_password(self, vhost: Any, exchange: str) -> None:
        topology = load(None, exchange)
        declare(topology, vhost.amqp_url, vhost.management_url, PASSWORDS)
        declare(topology, vhost.amqp_url, vhost.management_url, dict.fromkeys(PASSWORDS, "another"))
        open_blocking(as_user(vhost, f"{exchange}-consumer", "c-secret"), "test").close()

    def test_a_user_that_exists_gets_the_tags_it_lacks_and_keeps_its_own(
        self, vhost: Any, node: PrivateNode, exchange: str
    ) -> None:
        name = f"{exchange}-operator"
        node.management("PUT", f"/api/users/{name}", {"password": "mine", "tags": "monitoring"})
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, {})
        assert json.loads(node.management("GET", f"/api/users/{name}"))["tags"] == ["management", "monitoring"]
        open_blocking(as_user(vhost, name, "mine"), "test").close()

    def test_without_a_password_no_user_is_created_and_it_says_so(
        self, vhost: Any, exchange: str, capsys: Capture
    ) -> None:
        assert main(["topology", "declare", *arguments(vhost, exchange)]) == 0
        expected = (
            f"user '{exchange}-publisher': is missing and has no password; set BUSMON_PUBLISHER_PASSWORD to create it"
        )
        assert expected in capsys.readouterr().out
        assert main(["topology", "check", *arguments(vhost, exchange)]) == 1
        assert capsys.readouterr().out.splitlines() == [f"user '{exchange}-{role}': is missing" for role in PASSWORDS]

    def test_without_a_management_api_it_says_what_it_could_not_do(self, vhost: Any, capsys: Capture) -> None:
        assert main(["topology", "declare", "--amqp-url", vhost.amqp_url]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("users and permissions: not set, for there is no")

    def test_an_operator_who_is_no_administrator_declares_all_but_users(self, vhost: Any, exchange: str) -> None:
        topology = load(None, exchange)
        declare(topology, vhost.amqp_url, vhost.management_url, PASSWORDS)
        operator = f"{exchange}-operator:o-secret"
        lines = declare(
            topology,
            vhost.amqp_url.replace("guest:guest", operator),
            vhost.management_url.replace("guest:guest", operator),
            PASSWORDS,
        )
        assert lines[-1].endswith("401 Not administrator user")
        assert lines[-1].startswith("users and permissions: not set: ")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("x-max-length = 1_000_000", "x-max-length = 5"), "queue 'telemetry.fold.0': x-max-length is 1000000 on"),
            (
                ("x-delivery-limit = 100 ", ""),
                "queue 'telemetry.fold.0': x-delivery-limit is 100 on the broker, but none",
            ),
            (('"reject-publish"', '"drop-head"'), "x-overflow is reject-publish on the broker, but drop-head in"),
            (('type = "topic"', 'type = "fanout"'), "exchange 'telemetry': type is topic on the broker, but fanout in"),
        ],
    )
    def test_what_exists_with_another_argument_is_named(
        self, vhost: Any, tmp_path: Path, capsys: Capture, change: tuple[str, str], said: str
    ) -> None:
        declare(load(None, "telemetry"), vhost.amqp_url, None, {})
        file = topology_file(tmp_path, change)
        assert main(["topology", "declare", "--amqp-url", vhost.amqp_url, "--topology", str(file)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert str(file) in line
        assert "docs/topology.md" in line

    def test_a_durable_ring_of_an_earlier_version_is_named_and_left(self, vhost: Any, capsys: Capture) -> None:
        declare(load(None, "telemetry"), vhost.amqp_url, None, {})
        with Client(vhost.amqp_url) as client:
            client.channel.exchange_delete("telemetry.shards")
            client.channel.exchange_declare("telemetry.shards", "x-consistent-hash", durable=True)
        assert main(["topology", "declare", "--amqp-url", vhost.amqp_url]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "exchange 'telemetry.shards': durable is true on the broker, but false in" in line
        assert "docs/topology.md" in line

    def test_an_argument_that_rabbitmq_does_not_take_is_named(
        self, vhost: Any, tmp_path: Path, capsys: Capture
    ) -> None:
        file = topology_file(tmp_path, ("x-max-length = 1_000_000", "x-max-length = -1"))
        assert main(["topology", "declare", "--amqp-url", vhost.amqp_url, "--topology", str(file)]) == 2
        assert capsys.readouterr().err.startswith(
            "busmon: queue 'telemetry.fold.0': PRECONDITION_FAILED - invalid arg 'x-max-length'"
        )

    def test_what_amqp_does_not_tell_the_management_api_does(self, vhost: Any, capsys: Capture) -> None:
        declare(load(None, "telemetry"), vhost.amqp_url, None, {})
        with Client(vhost.amqp_url) as client:
            client.channel.queue_bind("telemetry.fold.0", "telemetry", "agent.#")
        assert main(["topology", "declare", *arguments(vhost)]) == 1
        said = "still different: binding 'telemetry' → queue 'telemetry.fold.0' with key 'agent.#': should not be there"
        assert said in capsys.readouterr().out

    def test_a_user_who_may_not_declare_is_told_so_in_one_line(self, vhost: Any, exchange: str) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        with pytest.raises(BrokerRefusedError, match=r"ACCESS_REFUSED .* takes an operator's permissions$"):
            declare(load(None, "other"), as_user(vhost, f"{exchange}-consumer", "c-secret"), None, {})


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
        with pytest.raises(TopologyError, match=r"'telemetry\.fold\.2' is missing .* run `busmon topology declare`"):
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
            with pytest.raises(TopologyError, match="rabbitmq_consistent_hash_exchange"):
                ensure(load(None, "telemetry"), bare.amqp_url)

            one = topology_file(tmp_path, ONE_SHARD)
            assert main(["topology", "declare", *arguments(bare), "--topology", str(one)]) == 0
            with Client(bare.amqp_url) as client:
                client.publish(b"{}", BasicProperties())
                assert client.ready("telemetry.fold.0") == 1


class TestEnsure:
    def test_declares_what_is_missing(self, vhost: Any) -> None:
        topology = load(None, "telemetry")
        assert "queue 'telemetry.fold.0': declared" in ensure(topology, vhost.amqp_url)
        assert ensure(topology, vhost.amqp_url) == []

    def test_makes_a_binding_again_that_somebody_removed(self, vhost: Any) -> None:
        topology = load(None, "telemetry")
        ensure(topology, vhost.amqp_url)
        with Client(vhost.amqp_url) as client:
            client.channel.exchange_unbind("telemetry.shards", "telemetry", "#")
            ensure(topology, vhost.amqp_url)
            client.publish(b"{}", BasicProperties(headers={"source": "a"}))

    def test_a_user_who_only_consumes_is_enough_where_nothing_is_missing(self, vhost: Any, exchange: str) -> None:
        topology = load(None, exchange)
        declare(topology, vhost.amqp_url, vhost.management_url, PASSWORDS)
        assert ensure(topology, as_user(vhost, f"{exchange}-consumer", "c-secret")) == []

    def test_without_a_ring_it_finds_nothing_missing_and_whoever_may_makes_it(self, vhost: Any, exchange: str) -> None:
        topology = load(None, exchange)
        declare(topology, vhost.amqp_url, vhost.management_url, PASSWORDS)
        ring = f"{exchange}.shards"
        with Client(vhost.amqp_url) as client:
            client.channel.exchange_delete(ring)
            assert ensure(topology, as_user(vhost, f"{exchange}-publisher", "p-secret")) == []
            assert ensure(topology, vhost.amqp_url) == []
            client.publish(b"{}", BasicProperties(headers={"source": "a"}), ring)

    def test_a_user_who_only_consumes_is_told_the_next_command(self, vhost: Any, exchange: str) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        with Client(vhost.amqp_url) as client:
            client.channel.queue_delete(f"{exchange}.quarantine")
        said = rf"^queue '{exchange}\.quarantine' is missing, and user .* run `busmon topology declare` as an operator$"
        with pytest.raises(TopologyError, match=said):
            ensure(load(None, exchange), as_user(vhost, f"{exchange}-consumer", "c-secret"))


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


class TestCheck:
    @pytest.fixture
    def place(self, vhost: Any, tmp_path: Path) -> Place:
        return Place.declared(vhost.amqp_url, tmp_path)

    def check(self, vhost: Any, capsys: Capture) -> list[str]:
        """The differences but for users, which these tests don't have."""
        main(["topology", "check", *arguments(vhost)])
        return [line for line in capsys.readouterr().out.splitlines() if not line.startswith("user ")]

    def test_lists_each_difference(self, vhost: Any, node: PrivateNode, place: Place, capsys: Capture) -> None:
        with Client(place.amqp_url) as client:
            client.channel.queue_delete("telemetry.fold.2")
            client.channel.queue_delete("telemetry.quarantine.dropped")
            client.channel.queue_declare("telemetry.quarantine.dropped", durable=True, arguments={"x-max-length": 5})
            client.channel.queue_bind("telemetry.fold.0", "telemetry", "task.#")
            client.channel.queue_declare("foreign")
            client.channel.queue_bind("foreign", "telemetry", "task.#")
        policy = {"pattern": r"\.fold\.1$", "definition": {"message-ttl": 5}, "apply-to": "queues"}
        node.management("PUT", f"/api/policies/{vhost.name}/short", policy)
        assert self.check(vhost, capsys) == [
            "queue 'telemetry.fold.2': is missing",
            "queue 'telemetry.quarantine.dropped': x-delivery-limit is not set, should be 1000000000",
            "queue 'telemetry.quarantine.dropped': x-max-length is 5, should be 100000",
            "queue 'telemetry.quarantine.dropped': x-max-length-bytes is not set, should be 67108864",
            "queue 'telemetry.quarantine.dropped': x-message-ttl is not set, should be 600000",
            "queue 'telemetry.quarantine.dropped': x-overflow is not set, should be 'drop-head'",
            "queue 'telemetry.quarantine.dropped': x-queue-type is not set, should be 'quorum'",
            "binding 'telemetry.shards' → queue 'telemetry.fold.2' with key '1': is missing",
            "binding 'telemetry.quarantine.dropped' → queue 'telemetry.quarantine.dropped' with key '': is missing",
            "binding 'telemetry' → queue 'telemetry.fold.0' with key 'task.#': should not be there",
            "queue 'telemetry.fold.1': policy 'short' sets message-ttl",
        ]

    def test_permissions_that_differ_are_listed(
        self, vhost: Any, node: PrivateNode, exchange: str, capsys: Capture
    ) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        wide = {"configure": "", "write": ".*", "read": ""}
        node.management("PUT", f"/api/permissions/{vhost.name}/{exchange}-publisher", wide)
        node.management("DELETE", f"/api/permissions/{vhost.name}/{exchange}-operator")
        assert main(["topology", "check", *arguments(vhost, exchange)]) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"user '{exchange}-publisher': may configure '', should be '^$'",
            f"user '{exchange}-publisher': may write '.*', should be {f'^{re.escape(exchange)}$'!r}",
            f"user '{exchange}-publisher': may read '', should be '^$'",
            f"user '{exchange}-operator': has no permissions in virtual host '{vhost.name}'",
        ]

    def test_says_what_it_could_not_see(self, vhost: Any, exchange: str, capsys: Capture) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        url = vhost.management_url.replace("guest:guest", f"{exchange}-operator:o-secret")
        assert main(["topology", "check", *arguments(vhost, exchange), "--management-url", url]) == 0
        unseen, verdict = capsys.readouterr().out.splitlines()
        assert unseen.startswith("not seen: users and permissions: ")
        assert verdict == f"no difference in what was seen of virtual host '{vhost.name}'"

    def test_reads_what_rabbitmqctl_exports(
        self, vhost: Any, node: PrivateNode, exchange: str, tmp_path: Path, capsys: Capture
    ) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        file = tmp_path / "broker.json"
        node.rabbitmqctl("export_definitions", str(file))
        seen = ["--amqp-url", vhost.amqp_url, "--exchange", exchange, "--definitions"]
        assert main(["topology", "check", *seen, str(file)]) == 0
        piped = subprocess.run(
            [sys.executable, "-m", "busmon", "topology", "check", *seen, "-"],
            input=file.read_text(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (piped.returncode, piped.stdout, piped.stderr) == (0, capsys.readouterr().out, "")

    def test_a_virtual_host_that_does_not_exist_is_one_line(self, vhost: Any, capsys: Capture) -> None:
        url = vhost.amqp_url.replace(vhost.name, "nowhere")
        assert main(["topology", "check", *arguments(vhost), "--amqp-url", url]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_a_management_api_that_refuses_is_one_line_without_the_password(self, vhost: Any, capsys: Capture) -> None:
        url = vhost.management_url.replace("guest:guest", "guest:hidden")
        assert main(["topology", "check", *arguments(vhost), "--management-url", url]) == 1
        assert capsys.readouterr().err == "busmon: management API as user 'guest': 401 Login failed\n"


class TestExport:
    def test_a_fresh_node_that_imports_it_differs_in_nothing(
        self, dedicated_node: PrivateNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.setenv("BUSMON_CONSUMER_PASSWORD", "c-secret")
        url = dedicated_node.amqp_url.replace("%2F", "imported")
        file = tmp_path / "definitions.json"
        assert main(["topology", "export", "--amqp-url", url, "--output", str(file)]) == 0
        assert file.stat().st_mode & 0o077 == 0
        assert capsys.readouterr().err.splitlines() == [
            "user 'telemetry-publisher' has no password in it, so nobody can log in as this user",
            "user 'telemetry-operator' has no password in it, so nobody can log in as this user",
        ]
        dedicated_node.rabbitmqctl("import_definitions", str(file))
        check = ["topology", "check", "--amqp-url", url, "--management-url", dedicated_node.management_url]
        # RabbitMQ says itself that an import takes some time after the command.
        deadline = time.monotonic() + 30
        while main(check) != 0:
            assert time.monotonic() < deadline, capsys.readouterr().out
        assert capsys.readouterr().out.endswith("no difference in virtual host 'imported'\n")

        open_blocking(url.replace("guest:guest", "telemetry-consumer:c-secret"), "test").close()
        for password in ("", "p-secret"):
            with pytest.raises(BrokerRefusedError, match="ACCESS_REFUSED"):
                open_blocking(url.replace("guest:guest", f"telemetry-publisher:{password}"), "test")

    def test_a_file_that_cannot_be_written_or_read_is_one_line(self, tmp_path: Path, capsys: Capture) -> None:
        assert main(["topology", "export", "--output", str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"busmon: {tmp_path}: can't write: Is a directory\n"
        assert main(["topology", "check", "--definitions", str(tmp_path / "nowhere")]) == 2
        assert capsys.readouterr().err.startswith(f"busmon: {tmp_path}/nowhere: can't read: No such file")

    def test_with_nothing_to_look_at_the_two_ways_are_named(self, capsys: Capture) -> None:
        assert main(["topology", "check"]) == 2
        assert capsys.readouterr().err == (
            "busmon: nothing to look at: give --management-url (BUSMON_MANAGEMENT_URL) or --definitions FILE\n"
        )

    def test_it_is_json_on_standard_output(self, capsys: Capture) -> None:
        assert main(["topology", "export", "--amqp-url", "amqp://guest:guest@localhost/%2Fdeep"]) == 0
        definitions = json.loads(capsys.readouterr().out)
        assert definitions["vhosts"] == [{"name": "/deep"}]
        assert {queue["vhost"] for queue in definitions["queues"]} == {"/deep"}


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
