import struct
from copy import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from pika import BasicProperties

from busmon.bus.frames.properties import LazyProperties
from busmon.bus.frames.table import encode_fields
from busmon.bus.operator.quarantined import Quarantined, read_quarantined
from busmon.bus.topology.topology import load

BY_WORKER = {
    "reason": "invalid_json",
    "detail": "line 1",
    "agent": "analyzer",
    "original_exchange": "telemetry",
    "original_routing_key": "analyzer.task",
    "original_user_id": "somebody",
    "original_expiration": "1000",
    "queue": "telemetry.fold.0",
    "quarantined_at": "1763794800.5",
}
DEATH = {
    "reason": "delivery_limit",
    "queue": "telemetry.fold.0",
    "exchange": "telemetry",
    "routing-keys": ["analyzer.task"],
    "count": 1,
    "time": datetime(2025, 11, 22, 7, tzinfo=UTC),
}


RELAYS = frozenset({"fleet", "operator"})


def body(content: bytes = b"body", **properties: Any) -> Quarantined:
    return read_quarantined("analyzer.task", BasicProperties(**properties), content, RELAYS)


def test_a_worker_says_why() -> None:
    cause = read_quarantined("x", BasicProperties(user_id="fleet", headers=BY_WORKER), b"", RELAYS).cause
    assert cause == (1763794800.5, "invalid_json", "line 1", "analyzer", "analyzer.task")


def test_rabbitmq_says_why_in_its_first_death() -> None:
    cause = body(app_id="analyzer", headers={"x-death": [DEATH, {**DEATH, "reason": "expired"}]}).cause
    said = "dead-lettered by RabbitMQ from queue telemetry.fold.0"
    assert cause == (1763794800, "delivery_limit", said, "analyzer", "analyzer.task")


@pytest.mark.parametrize("headers", [None, {}, {"x-death": []}, {"x-death": "?"}, {"x-death": [3]}])
def test_a_body_about_which_nobody_says_anything_is_shown_all_the_same(headers: Any) -> None:
    assert body(headers=headers).cause == (None, "unknown", "", "unknown", "analyzer.task")


@pytest.mark.parametrize("value", ["soon", None, [], b"x", "nan", "inf"])
def test_a_moment_that_is_none_is_left_out(value: Any) -> None:
    assert body(headers={**BY_WORKER, "quarantined_at": value}).cause.quarantined_at is None


def test_its_name_is_its_message_id_or_else_its_digest() -> None:
    assert body(message_id="a:1").identity == "a:1"
    assert body().identity == body(headers=BY_WORKER).identity == "230d8358dc8e"
    assert body(b"other").identity != body().identity


def test_a_replay_has_the_properties_of_the_publish() -> None:
    published = BasicProperties(
        message_id="a:1", content_type="application/json", app_id="a", priority=3, headers={"source": "a", "mine": 1}
    )
    death = [f"death-{what}" for what in ("exchange", "queue", "reason")]
    by_rabbitmq = {f"x-{which}-{what}": "q" for which in ("first", "last") for what in death}
    counts = {"x-delivery-count": 2, "x-acquired-count": 3}
    headers = {**published.headers, **BY_WORKER, **by_rabbitmq, **counts, "x-death": [DEATH]}
    kept = copy(published)
    kept.user_id, kept.headers = "fleet", headers
    found = read_quarantined("x", kept, b"body", RELAYS)
    assert found.make_replay_properties() == published
    assert found.properties.headers == headers


def test_a_publishers_own_headers_survive_rabbitmqs_dead_lettering() -> None:
    found = body(headers={"agent": "mine", "reason": "mine", "x-death": [DEATH]})
    assert found.make_replay_properties().headers == {"agent": "mine", "reason": "mine"}


def test_a_user_id_that_nobody_else_could_publish_travels_in_a_header() -> None:
    assert body(user_id="somebody").make_replay_properties().user_id is None
    replayed = body(user_id="somebody").make_replay_properties("operator")
    assert (replayed.user_id, replayed.headers) == ("operator", {"original_user_id": "somebody", "replayed": True})


def test_a_publish_without_a_user_is_replayed_without_one_whatever_it_claims() -> None:
    replayed = body(headers={"original_user_id": "victim", "replayed": True}).make_replay_properties("operator")
    assert (replayed.user_id, replayed.headers) == (None, None)


FORGED = {**BY_WORKER, "replayed": True, "original_exchange": "celeryev", "original_user_id": "victim"}


@pytest.mark.parametrize("user", ["evil", None])
def test_a_publishers_claims_do_not_count_after_rabbitmqs_dead_lettering(user: str | None) -> None:
    found = body(user_id=user, app_id="evil", headers={**FORGED, "x-death": [{**DEATH, "reason": "expired"}]})
    assert found.cause.reason == "expired"
    assert (found.publisher, found.exchange, found.cause.agent) == (user, None, "evil")
    replayed = found.make_replay_properties("operator")
    assert replayed.user_id == ("operator" if user else None)
    kept = {name: BY_WORKER[name] for name in ("reason", "detail", "agent", "queue")}
    assert replayed.headers == kept | ({"original_user_id": "evil", "replayed": True} if user else {})


def test_a_publishers_claims_do_not_count_without_a_death_either() -> None:
    found = body(user_id="evil", headers=FORGED)
    assert (found.publisher, found.exchange, found.cause.reason) == ("evil", None, "unknown")


def test_a_worker_vouches_for_user_and_exchange() -> None:
    found = body(user_id="fleet", headers=FORGED)
    assert (found.publisher, found.exchange) == ("victim", "celeryev")
    replayed = found.make_replay_properties("operator")
    assert (replayed.user_id, replayed.headers) == (
        "operator",
        {"original_user_id": "victim", "original_exchange": "celeryev", "replayed": True},
    )
    headers = found.make_replay_properties("operator", "celeryev").headers
    assert headers == {"original_user_id": "victim", "replayed": True}


def test_a_worker_that_names_no_user_vouches_for_the_exchange_alone() -> None:
    headers = {name: value for name, value in FORGED.items() if name != "original_user_id"}
    found = body(user_id="fleet", headers=headers)
    assert found.publisher is None
    replayed = found.make_replay_properties("operator")
    assert (replayed.user_id, replayed.headers) == (
        "operator",
        {"original_user_id": "", "original_exchange": "celeryev", "replayed": True},
    )


def test_a_worker_that_does_not_know_its_user_vouches_for_the_exchange_and_for_nobody() -> None:
    found = body(headers=FORGED)
    assert (found.cause.reason, found.publisher, found.exchange) == ("invalid_json", None, "celeryev")
    replayed = found.make_replay_properties("operator")
    assert (replayed.user_id, replayed.headers) == (
        "operator",
        {"original_user_id": "", "original_exchange": "celeryev", "replayed": True},
    )


@pytest.mark.parametrize(
    ("exchange", "operator", "expected"),
    [
        ("celeryev", None, "celeryev"),
        ("celeryev", "operator", "telemetry"),
        ("telemetry", None, "telemetry"),
        ("amq.topic", None, "telemetry"),
        (None, None, "telemetry"),
    ],
)
def test_without_a_user_celerys_go_back_to_celerys_exchange(
    exchange: str | None, operator: str | None, expected: str
) -> None:
    stated = {} if exchange is None else {"original_exchange": exchange}
    found = body(headers={"quarantined_at": "1.5", **stated})
    assert found.choose_exchange(operator, load(None, "telemetry")) == expected
    unsigned = found.make_replay_properties(None, expected)
    assert (unsigned.user_id, unsigned.headers) == (None, None)


def test_an_exchange_that_a_publisher_claims_is_not_replayed_to() -> None:
    found = body(headers=FORGED | {"x-death": [DEATH]})
    assert found.choose_exchange(None, load(None, "telemetry")) == "telemetry"


def test_what_is_too_large_is_too_large_when_rabbitmq_dead_lettered_it() -> None:
    found = body(user_id="ann", headers={"source": "a", "text": "x" * 17_000, "x-death": [DEATH]})
    stated = LazyProperties.of(BasicProperties(user_id="ann", headers={"source": "a", "text": "x" * 17_000}))
    size = len(stated.encoded)
    assert found.large_bytes == size
    replayed = found.make_replay_properties("operator")
    assert replayed.headers == {"original_user_id": "ann", "replayed": True, "large_properties": size}


def test_what_is_not_too_large_is_replayed_with_its_headers_as_they_are() -> None:
    fields = encode_fields({"source": "a", "text": "x" * 16_300}) + b"\x04timeT" + struct.pack(">Q", 1 << 40)
    added = encode_fields(
        {name: value for name, value in BY_WORKER.items() if name != "reason"} | {"reason": "é" * 900}
    )
    kept = LazyProperties.join(BasicProperties(user_id="fleet"), fields + added)
    found = read_quarantined("x", kept, b"body", RELAYS)
    assert (found.cause.reason, found.publisher, found.large_bytes) == ("é" * 900, "somebody", 0)
    stated = {"original_user_id": "somebody", "replayed": True}
    assert found.make_replay_properties("operator").fields == fields + encode_fields(stated)


@pytest.mark.parametrize(
    ("headers", "publisher"), [({"original_user_id": "ann"}, "ann"), ({"original_user_id": ""}, None), ({}, "fleet")]
)
def test_what_a_relay_had_published_again_before_it_died_is_its_first_publishers(
    headers: dict[str, Any], publisher: str | None
) -> None:
    found = body(user_id="fleet", headers={**headers, "original_exchange": "celeryev", "x-death": [DEATH]})
    assert (found.cause.reason, found.publisher, found.exchange) == ("delivery_limit", publisher, "celeryev")
