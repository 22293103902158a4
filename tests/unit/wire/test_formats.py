"""The decoder of a body is chosen by rule, then by content type, then by what its JSON has."""

import bz2
import gzip
import zlib
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.errors import EnvelopeError
from busmon.settings.kinds import FORMAT_NAMES, FormatRule
from busmon.wire import json_v1
from busmon.wire.envelope import Envelope
from busmon.wire.formats import DECODERS, Formats

from .producers import CLOUD_EVENT, EXPOSITION, INFLUX, STATSD, otlp, otlp_json

NATIVE = b'{"v": 1, "source": "s", "samples": []}'
RULES = [FormatRule("otlp_metrics", "otlp"), FormatRule("statsd.*", "statsd"), FormatRule("telegraf", "influx")]


def chosen(body: bytes, routing_key: str = "a.b", queue: str = "q", rules: Any = RULES, **properties: Any) -> str:
    """The format as which a body was decoded, or the reason why it wasn't."""
    try:
        return decoded(body, routing_key, queue, rules, **properties).format
    except EnvelopeError as error:
        return error.reason


def decoded(body: bytes, routing_key: str = "a.b", queue: str = "q", rules: Any = RULES, **properties: Any) -> Envelope:
    """The envelope of a body that is delivered so."""
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key=routing_key)
    delivery = Delivery.from_pika(method, BasicProperties(**properties), body)
    return Formats(rules, queue, 1 << 20).decode(delivery)


def test_a_rule_for_the_routing_key_or_the_queue_comes_first() -> None:
    assert chosen(otlp(), "otlp_metrics") == "otlp"
    assert chosen(STATSD, "statsd.web") == "statsd"
    assert chosen(INFLUX, "telegraf", content_type="text/plain") == "influx"
    assert chosen(STATSD, queue="lines.fold.0", rules=[FormatRule("lines.*", "statsd")]) == "statsd"
    assert chosen(NATIVE, "otlp_metrics", rules=[FormatRule("*", "json"), *RULES]) == "json"
    assert chosen(NATIVE, "statsd.web") == "invalid_statsd"


def counting(count: int, form: str) -> bytes:
    """A body of so many samples, in the shortest form that is counted as such."""
    empty, rows = b",".join([b"1"] * count), b",".join([b"1"] * (count - 1))
    stated = {
        "samples": b'"samples":[' + empty + b"]",
        "tables": b'"tables":[' + empty + b"]",
        "tables without rows": b'"tables":[' + b",".join([b'{"rows":[]}'] * count) + b"]",
        "rows": b'"tables":[{"rows":[' + empty + b"]}]",
        "rows and samples": b'"samples":[1],"tables":[{"rows":[' + rows + b"]}]",
    }
    return b'{"v":1,"source":"s",' + stated[form] + b"}"


@pytest.mark.parametrize("form", ["samples", "tables", "tables without rows", "rows", "rows and samples"])
@pytest.mark.parametrize("is_packed", [True, False])
def test_a_body_has_at_most_so_many_samples_and_rows(form: str, *, is_packed: bool) -> None:
    """Each costs a worker time, and a few hundred bytes expand to half a million."""
    properties: dict[str, Any] = {"message_id": "s:1", "content_type": "application/json"}
    pack = gzip.compress if is_packed else bytes
    properties |= {"content_encoding": "gzip"} if is_packed else {}
    assert chosen(pack(counting(50_000, form)), **properties) == "json"
    assert chosen(pack(counting(50_001, form)), **properties) == "too_many_samples"


def test_bodies_that_arrive_together_are_decoded_together_unless_one_has_too_many_samples() -> None:
    formats = Formats(RULES, "q", 1 << 20)
    for count, is_together in ((50_000, True), (50_001, False)):
        bodies = [NATIVE, counting(count, "rows")]
        assert formats.are_own(bodies, ["a.b"] * 2, [None] * 2, [None] * 2, ["s:1", "s:2"])
        assert (formats.decode_own(bodies, lambda bodies: [None] * len(bodies)) is not None) == is_together


def test_then_the_content_type() -> None:
    assert chosen(otlp(), content_type="application/x-protobuf") == "otlp"
    assert chosen(EXPOSITION, content_type="text/plain; version=0.0.4; charset=utf-8") == "prometheus"
    assert chosen(b"a 1\n# EOF\n", content_type="application/openmetrics-text; version=1.0.0") == "prometheus"
    assert chosen(CLOUD_EVENT, content_type="application/cloudevents+json; charset=utf-8") == "json"
    assert chosen(NATIVE, content_type="Application/JSON; charset=utf-8") == "json"
    assert chosen(STATSD, content_type="text/plain") == "content_type"


@pytest.mark.parametrize("body", [STATSD, EXPOSITION, INFLUX])
def test_lines_of_a_format_that_nothing_names_are_refused_with_the_way_to_name_it(body: bytes) -> None:
    with pytest.raises(EnvelopeError) as refused:
        decoded(body)
    assert refused.value.reason == "invalid_json"
    assert refused.value.detail.endswith(
        "; a body of another format takes a rule in BUSMON_FORMATS for its routing key, or its content type"
    )


def test_broken_json_is_refused_without_a_word_of_other_formats() -> None:
    with pytest.raises(EnvelopeError) as refused:
        decoded(b'{"v": 1,')
    assert refused.value.reason == "invalid_json"
    assert "BUSMON_FORMATS" not in refused.value.detail


@pytest.mark.parametrize("message_id", [None, "s:1"])
@pytest.mark.parametrize("content_type", [None, "application/json", "application/json; charset=utf-8"])
def test_then_what_the_json_has(content_type: str | None, message_id: str | None) -> None:
    stated: dict[str, Any] = {"content_type": content_type, "message_id": message_id, "headers": {"source": "s"}}
    assert chosen(NATIVE, **stated) == "json"
    assert chosen(otlp_json(), **stated) == "otlp"
    assert chosen(CLOUD_EVENT, **stated) == "json"
    assert chosen(b'{"some": "json"}', **stated) == "version"
    assert chosen(b"[]", **stated) == "invalid_envelope"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/json",
        "TEXT/JSON; charset=utf-8",
        "application/vnd.acme.telemetry+json",
        "application/problem+json; charset=utf-8",
        "application/octet-stream",
        "application/data",
        "text/plain",
        "text/plain; charset=utf-8",
        "application/json\0",
    ],
)
@pytest.mark.parametrize("body", [NATIVE, b"\n" + NATIVE, b"\xef\xbb\xbf" + NATIVE, NATIVE + b"\0"])
def test_a_json_object_is_told_under_the_types_that_clients_give_it(content_type: str, body: bytes) -> None:
    assert chosen(body, content_type=content_type) == "json"
    assert chosen(gzip.compress(body), content_type=content_type, content_encoding="gzip") == "json"
    assert chosen(otlp_json(), content_type=content_type) == "otlp"
    assert chosen(CLOUD_EVENT, content_type=content_type) == "json"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[]", "application/octet-stream"),
        (b"a 1\n", "text/plain"),
        (b"a 1\n", "application/data"),
        (NATIVE, "application/x-python-serialize"),
        (NATIVE, "text/html"),
        (NATIVE, "application/jsonp"),
    ],
)
def test_any_other_body_under_them_is_refused_by_its_type(body: bytes, content_type: str) -> None:
    assert chosen(body, content_type=content_type) == "content_type"


@pytest.mark.parametrize("before", [b"\n", b"\r\n", b" \t\n\n", b"\xef\xbb\xbf", b"\n\xef\xbb\xbf\n"])
@pytest.mark.parametrize("content_type", [None, "application/json", "application/octet-stream", "text/plain"])
def test_json_of_any_format_may_have_white_space_and_a_mark_before_it_and_nuls_behind(
    before: bytes, content_type: str | None
) -> None:
    for body in (otlp_json(), NATIVE, CLOUD_EVENT):
        expected = "otlp" if body.startswith(b'{\n  "resourceMetrics') else "json"
        for tail in (b"", b"\0", b"\n\0\0", b"\0\n"):
            assert chosen(before + body + tail, content_type=content_type, message_id="s:1") == expected
            assert chosen(before + body + tail, content_type=content_type) == expected
    assert chosen(before + otlp_json() + b"\0", "otlp_metrics", content_type=content_type) == "otlp"


def test_metrics_in_protobuf_that_begin_as_json_behind_a_line_break_stay_protobuf() -> None:
    lengths = {len(body) - 2: body for size in range(60, 140) if (body := resource_of(size))[1] == len(body) - 2}
    body = lengths[ord("{")]
    assert body.startswith(b"\n{")
    assert chosen(body, "otlp_metrics") == "otlp"


def resource_of(size: int) -> bytes:
    """Metrics in protobuf with a resource's attribute of so many characters."""
    named = {"key": "service.name", "value": {"stringValue": "s" * size}}
    metric = {"name": "m", "gauge": {"dataPoints": [{"asInt": "1"}]}}
    resource = {"resource": {"attributes": [named]}, "scopeMetrics": [{"metrics": [metric]}]}
    return ParseDict({"resourceMetrics": [resource]}, MetricsData()).SerializeToString()


@pytest.mark.parametrize("message_id", [None, "s:1"])
@pytest.mark.parametrize("content_encoding", ["utf-8", "binary", None])
def test_kombus_compression_is_told_by_its_header(content_encoding: str | None, message_id: str | None) -> None:
    stated: dict[str, Any] = {"content_encoding": content_encoding, "message_id": message_id}
    for name, compress in (("application/x-gzip", zlib.compress), ("application/x-bz2", bz2.compress)):
        headers = {"compression": name}
        assert chosen(compress(NATIVE), headers=headers, content_type="application/json", **stated) == "json"
        assert chosen(compress(otlp()), "otlp_metrics", headers=headers, **stated) == "otlp"
        assert chosen(compress(STATSD), "statsd.web", headers=headers, **stated) == "statsd"
        assert chosen(NATIVE, headers=headers, content_type="application/json", **stated) == "json"
    assert chosen(zlib.compress(NATIVE), content_type="application/json", **stated) == "invalid_json"


def test_bodies_with_a_charset_take_the_short_way() -> None:
    formats = Formats(RULES, "q", 1 << 20)
    stated = ["a.b"] * 3, ["application/json", None, ""], ["utf-8", None, "binary"], ["s:1", "s:2", "s:3"]
    assert formats.are_own([NATIVE] * 3, *stated)


@pytest.mark.parametrize("message_id", [None, "s:1"])
def test_a_binary_cloudevent_is_told_by_its_headers(message_id: str | None) -> None:
    event = {"cloudEvents:specversion": "1.0", "cloudEvents:id": "7", "cloudEvents:source": "/x"}
    assert chosen(b'{"v": 1, "samples": []}', headers=event, message_id=message_id) == "json"
    assert chosen(b'{"v": 1, "samples": []}', headers={}, message_id=message_id) == "invalid_envelope"


def test_each_format_of_the_settings_has_a_decoder() -> None:
    assert {json_v1.FORMAT, *DECODERS} == {*FORMAT_NAMES}
