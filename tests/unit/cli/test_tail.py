"""`busmon tail` shows what strangers publish: none of it ends the command or steers the terminal."""

import json

import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.cli.tail import Wanted, lines
from busmon.settings.kinds import FormatRule
from busmon.wire.formats import Formats

EVERYTHING = Wanted([], [], {})
FORMATS = Formats(
    [FormatRule("otlp", "otlp"), FormatRule("statsd", "statsd"), FormatRule("prom", "prometheus")], "", 1 << 20
)
GOOD = {"name": "hits_total", "value": 1}


def shown(body: bytes, key: str = "json", *, as_json: bool = False) -> list[str]:
    delivery = Delivery.from_pika(
        Basic.Deliver("tail", 1, redelivered=False, exchange="telemetry", routing_key=key), BasicProperties(), body
    )
    return list(lines(delivery, FORMATS, EVERYTHING, as_json=as_json))


def of_samples(*samples: object, ts: float = 1.7e9) -> bytes:
    return json.dumps({"v": 1, "source": "s", "agent": "a", "ts": ts, "samples": samples}).encode()


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        {**GOOD, "ts": 1e300},
        {**GOOD, "ts": -1e17},
        {**GOOD, "ts": "now"},
        {**GOOD, "name": 1},
        {**GOOD, "labels": [1]},
        {"name": "hits_total", "values": ["x"]},
        {"name": "hits_total", "value": {"deep": [[[]]]}},
        "no sample",
        None,
    ],
)
def test_what_cant_be_shown_ends_no_tail(odd: object, *, as_json: bool) -> None:
    assert len(shown(of_samples(GOOD, odd), as_json=as_json)) in {1, 2}


def test_a_value_nested_too_deep_to_be_written_ends_no_tail() -> None:
    deep = b'{"v":1,"source":"s","samples":[{"name":"x","value":' + b"[" * 1000 + b"]" * 1000 + b"}]}"
    assert len(shown(deep)) <= 1
    assert shown(deep, as_json=True) == []


def test_a_sample_without_labels_is_shown_by_its_name_alone() -> None:
    unlabelled, labelled = shown(of_samples(GOOD, {**GOOD, "labels": {"queue": "a"}}))
    assert unlabelled.endswith(" hits_total 1")
    assert labelled.endswith(' hits_total{queue="a"} 1')


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (73400320, "73400320"),
        (73400320.0, "73400320"),
        (1763794800.123456, "1763794800.123456"),
        (0.25, "0.25"),
        (1e300, "1e+300"),
        ([0.21, 1234567.0, 3], "0.21 1234567 3"),
    ],
)
def test_a_value_is_shown_in_full(value: object, text: str) -> None:
    key = "values" if isinstance(value, list) else "value"
    (line,) = shown(of_samples({"name": "size_bytes", key: value}))
    assert line.endswith(f" size_bytes {text}")


def test_nothing_that_was_published_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\x7f"
    body = of_samples({**GOOD, "labels": {evil: evil}})
    told = shown(body) + shown(body, as_json=True) + shown(b"{", f"key{evil}")
    said = [*told, *capsys.readouterr().err.splitlines()]
    assert len(said) == 3
    assert all(line.isprintable() for line in said)
    assert json.loads(said[1])["labels"] == {evil: evil}


def test_counts_of_other_formats_are_shown_as_json() -> None:
    assert json.loads(shown(b"hits:1|c", "statsd", as_json=True)[0])["labels"] == {}
    text = b'# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 3\nh_sum 4\nh_count 3\n'
    assert json.loads(shown(text, "prom", as_json=True)[0])["value"]["buckets"] == {"1.0": 2.0}
