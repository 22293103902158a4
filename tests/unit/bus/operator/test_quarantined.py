from datetime import UTC, datetime
from typing import Any

import pytest
from pika import BasicProperties

from busmon.bus.operator.quarantined import Quarantined, read_quarantined

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


def body(content: bytes = b"body", **properties: Any) -> Quarantined:
    return read_quarantined("analyzer.task", BasicProperties(**properties), content)


def test_a_worker_says_why() -> None:
    cause = read_quarantined("x", BasicProperties(headers=BY_WORKER), b"").cause
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
    kept = BasicProperties(message_id="a:1", content_type="application/json", app_id="a", priority=3, headers=headers)
    found = read_quarantined("x", kept, b"body")
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
    assert (replayed.user_id, replayed.headers) == (None, {})
