"""The decoder of a body is chosen by rule, then by content type, then by what its JSON has."""

from typing import Any

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.delivery import Delivery
from busmon.errors import EnvelopeError
from busmon.settings.kinds import FORMAT_NAMES, FormatRule
from busmon.wire import json_v1
from busmon.wire.formats import DECODERS, Formats

from .producers import CLOUD_EVENT, EXPOSITION, INFLUX, STATSD, otlp, otlp_json

NATIVE = b'{"v": 1, "source": "s", "samples": []}'
RULES = [FormatRule("otlp_metrics", "otlp"), FormatRule("statsd.*", "statsd"), FormatRule("telegraf", "influx")]


def chosen(body: bytes, routing_key: str = "a.b", queue: str = "q", rules: Any = RULES, **properties: Any) -> str:
    """The format as which a body was decoded, or the reason why it wasn't."""
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key=routing_key)
    delivery = Delivery.from_pika(method, BasicProperties(**properties), body)
    try:
        return Formats(rules, queue, 1 << 20).decode(delivery).format
    except EnvelopeError as error:
        return error.reason


def test_a_rule_for_the_routing_key_or_the_queue_comes_first() -> None:
    assert chosen(otlp(), "otlp_metrics") == "otlp"
    assert chosen(STATSD, "statsd.web") == "statsd"
    assert chosen(INFLUX, "telegraf", content_type="text/plain") == "influx"
    assert chosen(STATSD, queue="lines.fold.0", rules=[FormatRule("lines.*", "statsd")]) == "statsd"
    assert chosen(NATIVE, "otlp_metrics", rules=[FormatRule("*", "json"), *RULES]) == "json"
    assert chosen(NATIVE, "statsd.web") == "invalid_statsd"


def test_then_the_content_type() -> None:
    assert chosen(otlp(), content_type="application/x-protobuf") == "otlp"
    assert chosen(EXPOSITION, content_type="text/plain; version=0.0.4; charset=utf-8") == "prometheus"
    assert chosen(b"a 1\n# EOF\n", content_type="application/openmetrics-text; version=1.0.0") == "prometheus"
    assert chosen(CLOUD_EVENT, content_type="application/cloudevents+json; charset=utf-8") == "json"
    assert chosen(NATIVE, content_type="Application/JSON; charset=utf-8") == "json"
    assert chosen(STATSD, content_type="text/plain") == "content_type"


@pytest.mark.parametrize("message_id", [None, "s:1"])
@pytest.mark.parametrize("content_type", [None, "application/json", "application/json; charset=utf-8"])
def test_then_what_the_json_has(content_type: str | None, message_id: str | None) -> None:
    stated: dict[str, Any] = {"content_type": content_type, "message_id": message_id, "headers": {"source": "s"}}
    assert chosen(NATIVE, **stated) == "json"
    assert chosen(otlp_json(), **stated) == "otlp"
    assert chosen(CLOUD_EVENT, **stated) == "json"
    assert chosen(b'{"some": "json"}', **stated) == "version"
    assert chosen(b"[]", **stated) == "invalid_envelope"


@pytest.mark.parametrize("message_id", [None, "s:1"])
def test_a_binary_cloudevent_is_told_by_its_headers(message_id: str | None) -> None:
    event = {"cloudEvents:specversion": "1.0", "cloudEvents:id": "7", "cloudEvents:source": "/x"}
    assert chosen(b'{"v": 1, "samples": []}', headers=event, message_id=message_id) == "json"
    assert chosen(b'{"v": 1, "samples": []}', headers={}, message_id=message_id) == "invalid_envelope"


def test_each_format_of_the_settings_has_a_decoder() -> None:
    assert {json_v1.FORMAT, *DECODERS} == {*FORMAT_NAMES}
