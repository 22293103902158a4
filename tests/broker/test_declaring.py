"""`busmon topology declare`, and what a worker does when it connects: what is missing is added, nothing is changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.events.event import get_exchange
from pika import BasicProperties

from busmon.bus.connect.dialling import open_blocking
from busmon.bus.connect.session import Session
from busmon.bus.topology.declare import declare, ensure
from busmon.bus.topology.topology import load
from busmon.bus.topology.version import parse
from busmon.cli import main
from busmon.errors import BrokerRefusedError, TopologyError

from .topologies import ONE_SHARD, PASSWORDS, Client, arguments, as_user, objects, topology_file

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("no_settings")


NEWER = "x-consumer-disconnected-timeout"


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

    @pytest.mark.parametrize("is_celery_first", [True, False])
    def test_celerys_exchange_is_as_celery_declares_it_whoever_comes_first(
        self, vhost: Any, exchange: str, *, is_celery_first: bool
    ) -> None:
        def celery() -> None:
            with Celery(broker=vhost.amqp_url).connection_for_write() as connection:
                get_exchange(connection)(connection.default_channel).declare()

        if is_celery_first:
            celery()
        assert main(["topology", "declare", "--celery", *arguments(vhost, exchange)]) == 0
        celery()
        assert main(["topology", "declare", *arguments(vhost, exchange)]) == 0
        for more in ([], ["--celery"]):
            assert main(["topology", "check", *more, *arguments(vhost, exchange)]) == 0

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

    def test_a_broker_without_the_optional_users_passes_the_check(
        self, vhost: Any, exchange: str, capsys: Capture
    ) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, {**PASSWORDS, "consumer": None})
        assert main(["topology", "check", *arguments(vhost, exchange)]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"note: user '{exchange}-consumer' is optional and missing; `busmon topology declare` creates this user",
            f"no difference in virtual host '{vhost.name}'",
        ]

    def test_without_a_management_api_it_says_what_it_could_not_do(self, vhost: Any, capsys: Capture) -> None:
        assert main(["topology", "declare", "--amqp-url", vhost.amqp_url]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == (
            "users and permissions: not set, since management_url isn't set (BUSMON_MANAGEMENT_URL)"
        )

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

    def test_what_cannot_be_declared_whole_leaves_nothing_but_what_was_there(
        self, node: Any, vhost: Any, tmp_path: Path
    ) -> None:
        whole = topology_file(tmp_path, ONE_SHARD)
        broken = whole.with_name("broken.toml")
        broken.write_text(whole.read_text().replace("x-max-length = 10_000\n", "x-max-length = -1\n"))
        options = ["topology", "declare", "--amqp-url", vhost.amqp_url, "--topology"]
        assert main([*options, str(broken)]) == 2
        assert objects(node, vhost.name) == set()
        assert main([*options, str(whole)]) == 0
        before = objects(node, vhost.name)
        assert {"exchanges/telemetry", "queues/telemetry.fold.0", "queues/telemetry.quarantine"} < before
        with Client(vhost.amqp_url) as client:
            client.channel.queue_delete("telemetry.quarantine")
        assert main([*options, str(broken)]) == 2
        assert objects(node, vhost.name) == before - {"queues/telemetry.quarantine"}

    def test_what_amqp_does_not_tell_the_management_api_does(self, vhost: Any, capsys: Capture) -> None:
        declare(load(None, "telemetry"), vhost.amqp_url, None, {})
        with Client(vhost.amqp_url) as client:
            client.channel.queue_bind("telemetry.fold.0", "telemetry", "agent.#")
        assert main(["topology", "declare", *arguments(vhost)]) == 1
        said = "still different: binding 'telemetry' → queue 'telemetry.fold.0' with key 'agent.#': should not be there"
        assert said in capsys.readouterr().out

    def test_a_queue_gets_the_arguments_that_the_broker_knows(self, vhost: Any, node: PrivateNode) -> None:
        with Session(vhost.amqp_url, "test") as session:
            version = parse(session.broker_version)
        topology = load(None, "telemetry")
        declare(topology, vhost.amqp_url, None, {})
        queues = json.loads(node.management("GET", f"/api/queues/{vhost.name}"))
        found = {queue["name"]: queue["arguments"].get(NEWER) for queue in queues}
        expected = 1000 if version >= (4, 3) else None
        assert found.pop("telemetry.quarantine") is found.pop("telemetry.quarantine.dropped") is None
        assert found == dict.fromkeys([*map(topology.fold_queue, range(4)), topology.waiting], expected)

    def test_a_queue_that_lacks_a_newer_argument_is_left_and_named(self, vhost: Any, capsys: Capture) -> None:
        topology = load(None, "telemetry")
        older = replace(topology, queues=tuple(replace(queue, newer=()) for queue in topology.queues))
        declare(older, vhost.amqp_url, None, {})
        with Session(vhost.amqp_url, "test") as session:
            is_known = parse(session.broker_version) >= (4, 3)
        assert main(["topology", "declare", "--amqp-url", vhost.amqp_url]) == 0
        named = f", without {NEWER} (docs/topology.md, 'Changing an argument')" if is_known else ""
        assert f"queue 'telemetry.fold.0': was there{named}" in capsys.readouterr().out.splitlines()

    def test_a_user_who_may_not_declare_is_told_so_in_one_line(self, vhost: Any, exchange: str) -> None:
        declare(load(None, exchange), vhost.amqp_url, vhost.management_url, PASSWORDS)
        with pytest.raises(BrokerRefusedError, match=r"ACCESS_REFUSED .* takes an operator's permissions$"):
            declare(load(None, "other"), as_user(vhost, f"{exchange}-consumer", "c-secret"), None, {})


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
