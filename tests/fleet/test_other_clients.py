"""Clients that know nothing of busmon: what they publish in their own formats is counted exactly by a real fleet."""

import http.server
import os
import secrets
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import paho.mqtt.client as mqtt
import pika
from opentelemetry.instrumentation.urllib import URLLibInstrumentor
from paho.mqtt.enums import CallbackAPIVersion

from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import LOOPBACK, PLUGINS, free_ports
from tests.conftest import Vhost
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until
from tests.unit.wire.producers import CLOUD_EVENT, EXPOSITION, INFLUX, Sdk

FORMATS = "otlp.*=otlp,otlp_metrics=otlp,statsd.*=statsd,telegraf=influx"


@contextmanager
def channel(amqp_url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """A channel in confirm mode."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    opened = connection.channel()
    opened.confirm_delivery()
    yield opened
    connection.close()


def as_the_collector(opened: pika.adapters.blocking_connection.BlockingChannel, body: bytes) -> None:
    """Publish as its rabbitmqexporter does: one routing key, mandatory, persistent, and no other property."""
    opened.basic_publish("telemetry", "otlp_metrics", body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def kill_the_workers(fleet: RealFleet) -> None:
    """SIGKILL both, and wait for their replacements."""
    before = {*fleet.worker_pids()}
    for victim in before:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(now := {*fleet.worker_pids()}) == len(before) and not now & before, "replacements")


def test_totals_of_opentelemetry_are_exact_though_workers_are_killed_and_exports_come_twice(
    tmp_path: Path, vhost: Vhost
) -> None:
    sdks = [Sdk(instance=f"i{number}") for number in range(3)]
    tasks = [sdk.meter.create_counter("tasks", unit="{task}") for sdk in sdks]
    waits = [sdk.meter.create_histogram("wait", unit="s") for sdk in sdks]
    with RealFleet(tmp_path, vhost.amqp_url) as fleet, channel(vhost.amqp_url) as opened:
        for number in range(60):
            for sdk, task, wait in zip(sdks, tasks, waits, strict=True):
                task.add(number)
                wait.record(number)
                export = sdk.export()
                as_the_collector(opened, export)
                as_the_collector(opened, export)
            if number % 20 == 10:
                kill_the_workers(fleet)
        fleet.wait_for_total("busmon_envelopes_consumed_total", 180)
        totals = fleet.totals()
        assert totals["tasks_total"] == 3 * sum(range(60))
        assert totals["wait_seconds_count"] == 3 * 60
        assert totals["wait_seconds_sum"] == 3 * sum(range(60))
        assert totals.get("busmon_samples_rejected_total", 0) == 0
        assert totals["busmon_envelopes_deduplicated_total"] >= 180
        assert totals.get("busmon_envelopes_unidentified_total", 0) == 0


def test_each_format_reaches_the_scrape(tmp_path: Path, vhost: Vhost) -> None:
    with (
        RealFleet(tmp_path, vhost.amqp_url, BUSMON_FORMATS=FORMATS) as fleet,
        channel(vhost.amqp_url) as opened,
    ):
        as_the_collector(opened, instrumented_requests())
        for _ in range(2):
            opened.basic_publish("telemetry", "telegraf", INFLUX, pika.BasicProperties(content_type="text/plain"))
            opened.basic_publish("telemetry", "sensors.task", CLOUD_EVENT)
        opened.basic_publish("telemetry", "statsd.web", b"hits:3|c|@0.1\n", pika.BasicProperties(app_id="web"))
        snapshot = pika.BasicProperties(content_type="text/plain; version=0.0.4", headers={"job": "backup"})
        opened.basic_publish("telemetry", "backup.task", EXPOSITION, snapshot)
        event = {"cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/votes"}
        vote = {"v": 1, "samples": [{"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 4}]}
        for _ in range(2):
            binary = pika.BasicProperties(content_type="application/json", headers=event)
            opened.basic_publish("telemetry", "votes.business", orjson.dumps(vote), binary)
        spread(opened, Sdk())
        fleet.wait_for_total("busmon_envelopes_consumed_total", 7)
        wait_until(lambda: b'busmon_envelopes_consumed_total{shard="3"} ' in fleet.get("/metrics")[1], "shard 3")
        totals = fleet.totals()
        assert totals["http_client_duration_milliseconds_count"] == 2
        assert totals["http_requests_total"] == 7
        assert totals["hits_total"] == 30
        assert totals["spread_total"] == 1
        assert totals["jobs_done_total"] == 3
        assert totals["votes_cast_total"] == 4
        assert totals["nodes_seen_total"] == 1
        assert totals["busmon_envelopes_deduplicated_total"] == 3
        assert totals["busmon_envelopes_unidentified_total"] == 2
        assert totals.get("busmon_envelopes_rejected_total", 0) == 0


def spread(opened: pika.adapters.blocking_connection.BlockingChannel, sdk: Sdk) -> None:
    """Publish as a Collector that has a shard for itself."""
    opened.exchange_declare("otlp", "direct", durable=True)
    opened.queue_bind("telemetry.fold.3", "otlp", "otlp.3")
    sdk.meter.create_counter("spread").add(1)
    opened.basic_publish("otlp", "otlp.3", sdk.export(), pika.BasicProperties(delivery_mode=2), mandatory=True)


def instrumented_requests() -> bytes:
    """Export the measurements of two requests by OpenTelemetry's instrumentation of urllib, as its SDK does."""
    sdk = Sdk()
    server = http.server.HTTPServer((LOOPBACK, 0), http.server.SimpleHTTPRequestHandler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    instrumentor = URLLibInstrumentor()
    instrumentor.instrument(meter_provider=sdk.provider)
    try:
        for _ in range(2):
            with urllib.request.urlopen(f"http://{LOOPBACK}:{server.server_port}/") as answer:
                answer.read()
    finally:
        instrumentor.uninstrument()
        server.shutdown()
        serving.join()
        server.server_close()
    return sdk.export()


def test_an_mqtt_device_reaches_the_scrape_through_rabbitmqs_plugin(
    tmp_path: Path, dedicated_node: PrivateNode
) -> None:
    port = enable_mqtt(dedicated_node)
    with RealFleet(tmp_path, dedicated_node.amqp_url) as fleet:
        device = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="therm-1", protocol=mqtt.MQTTv311)
        device.username_pw_set("guest", "guest")
        device.connect(LOOPBACK, port)
        device.loop_start()
        source = f"therm-1-{secrets.token_hex(4)}"
        for number in range(1, 4):
            reading = {"name": "temperature_celsius", "type": "gauge", "labels": {"device": "therm-1"}, "value": number}
            woken = {"name": "agent_heartbeats_total", "labels": {"agent": "therm"}, "value": 1}
            envelope = {"v": 1, "source": source, "agent": "therm", "ts": time.time(), "samples": [reading, woken]}
            event = {"specversion": "1.0", "id": f"{number}", "source": source, "type": "telemetry", "data": envelope}
            for _ in range(2):
                device.publish("therm/system", orjson.dumps(event), qos=1).wait_for_publish(30)
        device.loop_stop()
        device.disconnect()
        fleet.wait_for_total("agent_heartbeats_total", 3)
        totals = fleet.totals()
        assert totals["temperature_celsius"] == 3
        assert totals["busmon_envelopes_deduplicated_total"] == 3


def enable_mqtt(node: PrivateNode) -> int:
    """Enable MQTT as `mqtt.exchange = telemetry` and `rabbitmq-plugins enable rabbitmq_mqtt` do; return the port.

    The command itself isn't run, since Debian's of RabbitMQ 4.0 looks for the plugins in the wrong directory.
    """
    (port,) = free_ports(1)
    listener = f'[{{"{LOOPBACK}", {port}}}]'
    for key, value in (("exchange", '<<"telemetry">>'), ("tcp_listeners", listener)):
        node.rabbitmqctl("eval", f"application:set_env(rabbitmq_mqtt, {key}, {value}, [{{persistent, true}}]).")
    enabled = node.directory / "enabled_plugins"
    enabled.write_text(f"[{','.join((*PLUGINS, 'rabbitmq_mqtt'))}].\n")
    answer = node.rabbitmqctl("--silent", "eval", f'rabbit_plugins:ensure("{enabled}").')
    assert answer.strip().startswith("{ok,"), answer
    return port
