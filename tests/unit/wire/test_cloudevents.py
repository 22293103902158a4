"""CloudEvents in both of AMQP's modes: the envelope is their data, and they say what it doesn't."""

import base64
import datetime as dt
from typing import Any

import orjson
import pytest

from busmon.errors import EnvelopeError
from busmon.wire.arrival import Arrival
from busmon.wire.cloudevents import attributes, decode, of_binary

from .producers import CLOUD_EVENT

EVENT: dict[str, Any] = orjson.loads(CLOUD_EVENT)
AT = 1763802000.0


def structured(**stated: Any) -> Arrival:
    return Arrival(orjson.dumps({**EVENT, **stated}), None, None, 1 << 20)


def test_a_structured_events_source_time_and_id_are_the_envelopes() -> None:
    envelope = decode(structured())
    assert (envelope.source, envelope.ts, envelope.identity) == ("/sensors/7", AT, "/sensors/7#A-1")
    assert envelope.is_shared
    assert envelope.samples == [{"name": "nodes_seen_total", "type": "counter", "value": 1}]


def test_what_the_envelope_itself_says_counts_more() -> None:
    envelope = decode(structured(data={"v": 1, "source": "run-7", "ts": 5, "agent": None, "samples": []}))
    assert (envelope.source, envelope.ts, envelope.identity) == ("run-7", 5, "/sensors/7#A-1")
    assert not envelope.is_shared


def test_data_may_be_base64() -> None:
    data = base64.b64encode(orjson.dumps(EVENT["data"])).decode()
    assert decode(structured(data=None, data_base64=data)).samples == EVENT["data"]["samples"]


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_"])
@pytest.mark.parametrize(
    "time",
    ["2025-11-22T09:00:00Z", "2025-11-22T10:00:00+01:00", dt.datetime(2025, 11, 22, 9)],  # noqa: DTZ001 - pika's
)
def test_a_binary_events_attributes_are_headers(prefix: str, time: Any) -> None:
    stated = {"specversion": "1.0", "id": "A-1", "source": "/sensors/7", "type": "t", "time": time}
    found = attributes({**{f"{prefix}{name}": value for name, value in stated.items()}, "source": "x"})
    assert found is not None
    envelope = of_binary(found, EVENT["data"])
    assert (envelope.source, envelope.ts, envelope.identity) == ("/sensors/7", AT, "/sensors/7#A-1")


def test_other_headers_are_no_event() -> None:
    assert attributes({"source": "x", "cloudEvents:id": "1"}) is None


@pytest.mark.parametrize(
    "stated",
    [
        {"specversion": "0.3"},
        {"id": None},
        {"id": ""},
        {"id": "x" * 2000},
        {"source": 7},
        {"time": "yesterday"},
        {"time": -7},
        {"time": 7.5},
        {"data": None},
        {"data": "text"},
        {"data_base64": "?"},
        {"data_base64": 7},
    ],
)
def test_what_is_no_event_with_an_envelope_is_refused(stated: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError, match="invalid_cloudevent"):
        decode(structured(**stated))


def test_header_names_that_are_no_text_are_no_attributes() -> None:
    assert attributes({b"\xff": "1", "cloudEvents:specversion": "1.0"}) == {"specversion": "1.0"}  # type: ignore[dict-item]  # as pika has them
