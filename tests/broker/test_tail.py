"""`busmon tail` against a real broker: what passes is shown, and none of it is taken."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from pika import BasicProperties

from busmon.bus.operator.tap import tap
from busmon.bus.topology.users import grant
from busmon.errors import BrokerRefusedError

from .test_publish_command import publish
from .topologies import QUEUE, Client, Place

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = r"""
{"name": "queue_size", "labels": {"queue": "tasks"}, "value": 1}
{"name": "queue_size", "labels": {"queue": "\u001b[2J"}, "value": 2}
{"name": "tasks_processed_total", "labels": {"agent": "a", "status": "failure"}, "value": 3}
{"name": "session_duration_seconds", "values": [0.5, 60]}
"""


@pytest.fixture
def bindings(node: Any, vhost: Any) -> Callable[[], int]:
    """How many queues hang on the exchange."""
    path = f"/api/exchanges/{vhost.name}/telemetry/bindings/source"
    return lambda: len(json.loads(node.management("GET", path)))


@pytest.mark.parametrize(
    "case",
    [
        ("-n 4", ["queue_size", "queue_size", "tasks_processed_total", "session_duration_seconds"]),
        ("-n 1 -l status=fail* queue_* tasks_*", ["tasks_processed_total"]),
        ("-n 1 --agent me s* --json", ["session_duration_seconds"]),
    ],
)
def test_what_is_asked_for_is_shown_and_stays_in_its_queue(
    place: Place, client: Client, bindings: Callable[[], int], case: tuple[str, list[str]]
) -> None:
    arguments, shown = case[0].split(), case[1]
    command = [sys.executable, "-m", "busmon", "tail", *arguments, "--amqp-url", place.amqp_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        client.until(lambda: bindings() > 1, "the tail's queue")
        assert publish(place, "-", "--agent", "me", lines=LINES).returncode == 0
        output, errors = tail.communicate(timeout=30)
    assert (tail.returncode, errors) == (0, "")
    assert "\x1b" not in output
    if "--json" in arguments:
        (seen,) = map(orjson.loads, output.splitlines())
        assert (seen["agent"], seen["name"], seen["value"]) == ("me", shown[0], [0.5, 60])
    else:
        assert [line.split()[2].partition("{")[0] for line in output.splitlines()] == shown
    client.until_ready(QUEUE, 1)
    client.until(lambda: bindings() == 1, "the tail's queue to go")


def test_a_body_that_is_no_envelope_is_named(place: Place, client: Client, bindings: Callable[[], int]) -> None:
    command = [sys.executable, "-m", "busmon", "tail", "-n", "1", "--amqp-url", place.amqp_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        client.until(lambda: bindings() > 1, "the tail's queue")
        client.publish(b"[1]", BasicProperties(message_id="a:1"))
        client.publish(b'{"v": 1, "source": "a", "samples": [{}]}', BasicProperties(message_id="a:2"))
        assert publish(place, "-", lines=LINES).returncode == 0
        output, errors = tail.communicate(timeout=30)
    assert (tail.returncode, output.count("\n"), errors.count("not shown")) == (0, 1, 2)


def test_without_a_broker_there_is_one_line() -> None:
    command = [sys.executable, "-m", "busmon", "tail", "--amqp-url", "amqp://guest:guest@127.0.0.1:1/"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = "RabbitMQ at 127.0.0.1:1: Connection refused; check host and port in amqp_url (BUSMON_AMQP_URL)"
    assert (ran.returncode, ran.stderr) == (1, f"busmon: {said}\n")


def test_an_exchange_that_does_not_exist_comes_with_the_command_that_makes_it(place: Place) -> None:
    with pytest.raises(BrokerRefusedError, match=r"^NOT_FOUND .*nope.*; run `busmon topology declare`, which makes it"):
        next(tap(place.amqp_url, "nope"))


def test_the_operators_rights_are_enough_and_the_publishers_are_not(node: Any, vhost: Any, place: Place) -> None:
    for user in place.topology.users:
        if user.role in {"operator", "publisher"}:
            named = replace(user, name=f"{user.role}-{vhost.name}")
            list(grant([named], vhost.management_url, vhost.name, {user.role: "secret"}))
    passing = tap(place.amqp_url.replace("guest:guest", f"operator-{vhost.name}:secret"), "telemetry")
    assert next(passing) is None
    passing.close()
    with pytest.raises(BrokerRefusedError, match=r"^ACCESS_REFUSED .*; .* takes an operator's permissions$"):
        next(tap(place.amqp_url.replace("guest:guest", f"publisher-{vhost.name}:secret"), "telemetry"))
    for role in ("operator", "publisher"):
        node.management("DELETE", f"/api/users/{role}-{vhost.name}")
