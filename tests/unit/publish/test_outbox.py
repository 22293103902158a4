"""Envelopes on their way: in order, each under one id until it is confirmed, in bounded memory."""

import pytest

from busmon.errors import BusError
from busmon.publish.batch import Origin, Sealed
from busmon.publish.outbox import Outbox

from .fake_publisher import FakePublisher

ORIGIN = Origin("analyzer-1", "analyzer")


def an_outbox(publisher: FakePublisher, max_bytes: int = 1 << 20) -> Outbox:
    return Outbox(ORIGIN, "telemetry", publisher, max_bytes)  # type: ignore[arg-type]


def a_sealed(number: int, samples: int = 1) -> Sealed:
    return Sealed("task", b"%10d" % number, samples)


def test_properties_say_whose_and_which_envelope_it_is() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher)
    outbox.put(a_sealed(1))
    outbox.send_first()
    (stored,) = publisher.stored
    properties = stored.properties
    assert (stored.exchange, stored.routing_key) == ("telemetry", "analyzer.task")
    assert (properties.message_id, properties.app_id, properties.delivery_mode) == ("analyzer-1:1", "analyzer", 2)
    assert properties.content_type == "application/json"
    assert properties.headers["source"] == "analyzer-1"
    assert properties.headers["published_at_ns"] / 1e9 == pytest.approx(properties.timestamp, abs=2)


def test_what_is_not_confirmed_is_repeated_under_its_id_before_what_follows() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher)
    for number in (1, 2):
        outbox.put(a_sealed(number))
    publisher.failure = BusError("gone")
    for _ in range(2):
        with pytest.raises(BusError):
            outbox.send_first()
    publisher.failure = None
    while outbox:
        outbox.send_first()
    assert publisher.attempts == ["analyzer-1:1"] * 3 + ["analyzer-1:2"]
    assert [stored.body for stored in publisher.stored] == [1, 2]


def test_the_time_of_publishing_is_that_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher)
    outbox.put(a_sealed(1))
    publisher.failure = BusError("gone")
    with pytest.raises(BusError):
        outbox.send_first()
    publisher.failure = None
    monkeypatch.setattr("busmon.publish.outbox.time_ns", lambda: 42)
    outbox.send_first()
    assert publisher.stored[0].properties.headers["published_at_ns"] == 42


def test_the_oldest_envelopes_are_given_up_for_new_ones() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher, max_bytes=35)
    given_up = [outbox.put(a_sealed(number, samples=number)) for number in range(1, 6)]
    assert given_up == [0, 0, 0, 1, 2]
    assert outbox.samples == 3 + 4 + 5
    while outbox:
        outbox.send_first()
    assert [stored.body for stored in publisher.stored] == [3, 4, 5]
    assert publisher.attempts == ["analyzer-1:1", "analyzer-1:2", "analyzer-1:3"]


def test_an_envelope_larger_than_the_bound_still_goes_out_alone() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher, max_bytes=5)
    outbox.put(a_sealed(1))
    outbox.send_first()
    assert len(publisher.stored) == 1
