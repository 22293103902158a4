"""TLS to RabbitMQ, for whatever connects: a real broker's TLS listener, real certificates, a real fleet."""

import subprocess
import sys
from pathlib import Path

import orjson
import pika
import pytest

from busmon import Telemetry
from busmon.bus.connect.connection import parameters
from busmon.bus.connect.dialling import open_blocking
from busmon.bus.operator.quarantine import Quarantine
from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import load
from busmon.demo.broker import PrivateNode
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, BusError, SettingsError
from tests.broker.secured import Entrance, open_entrance
from tests.broker.topologies import Client
from tests.certificates import Authority
from tests.conftest import Vhost

from .publishing import envelope, publish
from .real_fleet import RealFleet

EVENT = {
    "type": "task-sent",
    "hostname": "gen1@shop",
    "pid": 7,
    "clock": 1,
    "uuid": "a",
    "name": "tasks.pay",
    "queue": "orders",
    "timestamp": 1_763_794_800.0,
}


@pytest.fixture(scope="module")
def entrance(node: PrivateNode, tmp_path_factory: pytest.TempPathFactory) -> Entrance:
    return open_entrance(node, tmp_path_factory.mktemp("entrance"))


def certified(entrance: Entrance, virtual_host: str, named: str = "") -> str:
    """The URL of the user guest, who is known by a certificate and has no password; a URL may name another user."""
    certificate, key = entrance.authority.issue("guest", "guest.example")
    return entrance.amqp_url(
        virtual_host,
        named,
        cacertfile=entrance.authority.ca,
        certfile=certificate,
        keyfile=key,
        auth_mechanism="external",
    )


def test_a_fleet_over_tls_counts_exactly_what_was_published(entrance: Entrance, vhost: Vhost, tmp_path: Path) -> None:
    amqp_url = certified(entrance, vhost.name)
    samples = [{"name": "tasks_processed_total", "labels": {"agent": "analyzer", "status": "success"}, "value": 1}]
    bodies = [envelope(f"analyzer-{source}", number, samples) for source in range(20) for number in range(1, 101)]
    large = envelope("analyzer-large", 1, samples * 5_000)
    with RealFleet(tmp_path, amqp_url) as fleet:
        publish(vhost.amqp_url, [*bodies, large])
        fleet.wait_for_total("tasks_processed_total", 7_000)
        certificates = fleet.get("/metrics")[1]
        log = fleet.log.read_text()
    assert b'busmon_certificate_expiry_timestamp_seconds{file="' in certificates
    assert b'use="amqp_client"' in certificates
    assert "connection_lost" not in log


def test_the_sdk_and_the_command_line_publish_over_tls(entrance: Entrance, vhost: Vhost, tmp_path: Path) -> None:
    amqp_url = certified(entrance, vhost.name)
    with RealFleet(tmp_path, amqp_url) as fleet:
        with Telemetry("analyzer", amqp_url=amqp_url) as telemetry:
            telemetry.counter("sdk_total").inc()
        command = [
            sys.executable,
            "-m",
            "busmon",
            "publish",
            "cli_total",
            "2",
            "--type",
            "counter",
            "--amqp-url",
            amqp_url,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        fleet.wait_for_total("sdk_total", 1)
        fleet.wait_for_total("cli_total", 2)


@pytest.mark.parametrize("named", ["", "other@"], ids=["an unknown user", "a user that the broker refuses"])
def test_celerys_events_are_replayed_where_neither_fleet_nor_operator_states_a_user(
    entrance: Entrance, vhost: Vhost, tmp_path: Path, named: str
) -> None:
    amqp_url, topology = certified(entrance, vhost.name, named), load(None, "telemetry", with_celery=True)
    declare(topology, vhost.amqp_url, None, {})
    stated = pika.BasicProperties(content_type="application/json")
    with Client(vhost.amqp_url) as celery:
        with RealFleet(tmp_path, amqp_url, BUSMON_MAX_BODY_BYTES="1024") as fleet:
            celery.publish(orjson.dumps([EVENT | {"args": "x" * 2000}]), stated, exchange="celeryev")
            celery.until_ready("telemetry.quarantine", 1)
            assert "celery_task_sent_total" not in fleet.totals()
        with Quarantine(amqp_url, load(None, "telemetry")) as quarantine:
            assert [step.body.exchange for step in quarantine.replay(lambda _: True)] == ["celeryev"]
        with RealFleet(tmp_path, amqp_url) as fleet:
            fleet.wait_for_total("celery_task_sent_total", 1)
            assert fleet.totals()["busmon_envelopes_rejected_total"] == 1


def test_a_broker_that_nobody_vouches_for_is_not_spoken_to(entrance: Entrance, tmp_path: Path) -> None:
    ours = entrance.authority.ca
    for options, reason in (
        ({}, "self-signed certificate in certificate chain"),
        ({"cacertfile": Authority(tmp_path).ca}, "certificate verify failed"),
        ({"cacertfile": ours, "server_name_indication": "other.example"}, "not valid for 'other.example'"),
    ):
        with pytest.raises(BrokerUnreachableError, match=reason):
            open_blocking(entrance.amqp_url("%2F", **options), "test")
    open_blocking(entrance.amqp_url("%2F", cacertfile=ours), "test").close()


def test_a_client_that_nobody_vouches_for_is_not_let_in(entrance: Entrance, tmp_path: Path) -> None:
    ours = entrance.authority.ca
    certificate, key = Authority(tmp_path).issue("guest", "guest.example")
    unknown, unknown_key = entrance.authority.issue("nobody", "nobody.example")
    with pytest.raises(BusError, match=r"unknown ca|EOF|reset"):
        open_blocking(
            entrance.amqp_url("%2F", "", cacertfile=ours, certfile=certificate, keyfile=key, auth_mechanism="external"),
            "test",
        )
    with pytest.raises(BrokerRefusedError, match="EXTERNAL"):
        open_blocking(entrance.amqp_url("%2F", "", cacertfile=ours, auth_mechanism="external"), "test")
    named = entrance.amqp_url(
        "%2F", "", cacertfile=ours, certfile=unknown, keyfile=unknown_key, auth_mechanism="external"
    )
    with pytest.raises(BrokerRefusedError, match="ACCESS_REFUSED"):
        open_blocking(named, "test")


def test_a_certificate_that_was_renewed_is_what_a_lost_connection_comes_back_with(
    entrance: Entrance, tmp_path: Path
) -> None:
    ours = entrance.authority.ca
    certificate, key = Authority(tmp_path).issue("guest", "guest.example")
    url = entrance.amqp_url("%2F", "", cacertfile=ours, certfile=certificate, keyfile=key, auth_mechanism="external")
    kept = parameters(url, "test")
    before = kept.ssl_options.context
    key.write_text("half a k")
    assert kept.ssl_options.context is before
    for path, renewed in zip((certificate, key), entrance.authority.issue("guest", "guest.example"), strict=True):
        path.write_bytes(renewed.read_bytes())
    assert kept.ssl_options.context is not before
    open_blocking(url, "test").close()


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("guest", "guest.example")
    other = authority.issue("other", "other.example")[1]
    for url, line in (
        (f"amqps://x/?cacertfile={tmp_path}/none.pem", f"cacertfile={tmp_path}/none.pem: can't read it: No such file"),
        (f"amqps://x/?cacertfile={key}", f"cacertfile={key}: expected PEM certificates"),
        (
            f"amqps://x/?certfile={certificate}&keyfile={other}",
            f"certfile={certificate}: expected PEM, with the key that",
        ),
        (f"amqps://x/?keyfile={key}", "keyfile: expected a certfile too"),
        ("amqps://x/?verify=verify_none", "verify: expected verify_peer, for the server is always verified"),
        ("amqps://x/?auth_mechanism=cram", "auth_mechanism: expected plain or external"),
        (f"amqp://x/?cacertfile={authority.ca}", "expected amqps://…, where certificates are named"),
    ):
        with pytest.raises(SettingsError) as error:
            open_blocking(url, "test")
        assert line in str(error.value)
        assert str(error.value).startswith("amqp_url: ")
