"""Celery's events: told from other bodies, read without what is private, and known by an identity of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from busmon.errors import EnvelopeError
from busmon.wire import json_v1
from busmon.wire.arrival import Arrival
from busmon.wire.celery import class_name, decode
from busmon.wire.celery_event import TaskEvent, WorkerEvent, host_of
from busmon.wire.formats import Formats

ENVELOPE = {"v": 1, "source": "s-1", "samples": []}
SENT = {
    "type": "task-sent",
    "hostname": "gen7@web",
    "utcoffset": 0,
    "pid": 7,
    "clock": 3,
    "timestamp": 1_763_794_800.5,
    "uuid": "3f2b7c1e-0000-4000-8000-000000000001",
    "name": "shop.pay",
    "args": "('4000 1234 5678 9010',)",
    "kwargs": "{'cvc': 123}",
    "queue": "payments",
    "exchange": "",
    "routing_key": "payments",
    "eta": None,
}
FAILED = SENT | {
    "type": "task-failed",
    "hostname": "celery@worker-1",
    "exception": "CardError('4000 1234 5678 9010')",
    "traceback": "Traceback (most recent call last): …",
}
HEARTBEAT = {
    "type": "worker-heartbeat",
    "hostname": "celery@worker-1",
    "pid": 9,
    "clock": 12,
    "timestamp": 1_763_794_802.0,
    "freq": 2.0,
    "active": 3,
    "processed": 120,
    "loadavg": [0.1, 0.2, 0.3],
    "sw_ident": "py-celery",
}


def events(document: Any) -> list[Any]:
    """The events of a body."""
    (part,) = decode(arrival(orjson.dumps(document), content_encoding="utf-8")).parts
    return [*part.events]


def arrival(body: bytes, **properties: Any) -> Arrival:
    """A body that came through Celery's exchange."""
    return Arrival(body, None, max_bytes=1 << 20, **{"content_encoding": None, "is_celerys": True, **properties})


def chosen(body: bytes, exchange: str = "celeryev", **properties: Any) -> str:
    """The format that a body is taken for."""
    delivered = SimpleNamespace(
        body=body,
        exchange=exchange,
        routing_key=properties.pop("routing_key", "task.multi"),
        content_type=properties.pop("content_type", "application/json"),
        content_encoding=properties.pop("content_encoding", "utf-8"),
        message_id=None,
        published_at=None,
        redelivered=False,
        properties=SimpleNamespace(app_id=None, user_id=None, headers={"hostname": "celery@worker-1"}),
    )
    return Formats((), "telemetry.fold.0", 1 << 20, frozenset({"celeryev"})).decode(delivered).format


def test_what_did_not_come_through_celerys_exchange_is_nobodys() -> None:
    for body in (SENT, [SENT, FAILED], [HEARTBEAT]):
        with pytest.raises(EnvelopeError) as refusal:
            chosen(orjson.dumps(body), exchange="telemetry")
        assert refusal.value.reason == "invalid_celery"
        with pytest.raises(EnvelopeError):
            decode(arrival(orjson.dumps(body), is_celerys=False))


def test_what_a_metric_needs_is_read_and_nothing_private() -> None:
    (sent,), (failed,), (heartbeat,) = events(SENT), events(FAILED), events(HEARTBEAT)
    assert sent == TaskEvent(
        sent.identity, "sent", "gen7@web", 1_763_794_800.5, sent.task, name="shop.pay", queue="payments"
    )
    assert (failed.kind, failed.exception, failed.name) == ("failed", "CardError", "")
    assert failed.task == sent.task
    assert heartbeat == WorkerEvent(heartbeat.identity, "heartbeat", "celery@worker-1", 1_763_794_802.0, 3)
    assert "4000" not in repr(decode(arrival(orjson.dumps([SENT, FAILED]))))


@pytest.mark.parametrize(
    ("body", "format_"),
    [
        (orjson.dumps([SENT, FAILED]), "celery"),
        (orjson.dumps(SENT), "celery"),
        (b" \n" + orjson.dumps([HEARTBEAT]), "celery"),
        (orjson.dumps(ENVELOPE), "json"),
        (orjson.dumps(ENVELOPE | {"type": "task-sent", "hostname": "h"}), "json"),
    ],
)
def test_a_body_is_known_by_its_members_whatever_its_routing_key(body: bytes, format_: str) -> None:
    assert chosen(body, routing_key="task.multi") == chosen(body, routing_key="any") == format_


def test_a_cloudevent_with_a_member_hostname_stays_one() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "s-1", "type": "t", "hostname": "web", "data": ENVELOPE}
    assert chosen(orjson.dumps(event), content_type="application/json") == "json"


def test_no_other_publisher_can_own_the_source_of_celerys_events() -> None:
    source = decode(arrival(orjson.dumps(SENT))).source
    document = {"v": 1, "source": source, "agent": "a", "ts": 1, "samples": []}
    with pytest.raises(EnvelopeError, match=r"'source' is 1 to 200 characters"):
        json_v1.of_document(document)
    assert Arrival(b"", None, None, 1, headers={"source": source}).sender != source


def test_a_body_has_at_most_so_many_events() -> None:
    heartbeat = {"type": "worker-heartbeat", "hostname": "h"}
    assert len(events([heartbeat] * 3000)) == 3000
    with pytest.raises(EnvelopeError, match="more than 3000 events") as refusal:
        events([heartbeat] * 3001)
    assert refusal.value.reason == "too_many_samples"


def test_an_event_is_known_by_what_is_its_own() -> None:
    for key, value in (("hostname", "gen8@web"), ("clock", 4), ("uuid", "u"), ("type", "task-received"), ("pid", 8)):
        assert events(SENT | {key: value})[0].identity != events(SENT)[0].identity, key
    # A worker that was restarted begins its clock again: the redelivered task's event is another.
    assert events(SENT | {"timestamp": 1_763_794_801.0})[0].identity != events(SENT)[0].identity
    assert events(SENT | {"args": "()"})[0].identity == events(SENT)[0].identity


def test_a_body_is_known_again_by_its_events() -> None:
    one, again, other = (decode(arrival(orjson.dumps(each))) for each in ([SENT], SENT, [SENT, FAILED]))
    assert one.identity == again.identity
    assert one.identity != other.identity


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("KeyError('x')", "KeyError"),
        ("ValueError()", "ValueError"),
        ("requests.exceptions.ConnectionError('away')", "ConnectionError"),
        ("TimeLimitExceeded(2.0)", "TimeLimitExceeded"),
        ("<HTTPError 404: 'Not Found'>", "UnknownException"),
        ("the password is hunter2 (", "UnknownException"),
        ("A" * 5000 + "(", "UnknownException"),
        ("a." * 5000, "UnknownException"),
        ("", "UnknownException"),
        (None, "UnknownException"),
        ({"a": 1}, "UnknownException"),
    ],
)
def test_of_an_exception_only_its_class_is_read(shown: Any, name: str) -> None:
    assert class_name(shown) == name


def test_an_exception_of_the_pool_is_in_the_traceback_alone() -> None:
    traceback = (
        'Traceback (most recent call last):\n  File "billiard/pool.py", line 7, in on_hard_timeout\n'
        "    raise TimeLimitExceeded(job._timeout)\nbilliard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1,)\n"
    )
    pools = FAILED | {"exception": "ExceptionWithTraceback()"}
    assert events(pools | {"traceback": traceback})[0].exception == "TimeLimitExceeded"
    for odd in (None, 3, "", "secret: 1", "x billiard.exceptions.E: 1", "billiard.E" * 10_000):
        assert events(pools | {"traceback": odd})[0].exception == "ExceptionWithTraceback"
    assert events(FAILED | {"traceback": traceback})[0].exception == "CardError"


@pytest.mark.parametrize(
    "bad",
    [
        3,
        None,
        [],
        {},
        {"type": "task-sent"},
        {"type": "task-sent", "hostname": 3, "uuid": "u"},
        {"type": "task-sent", "hostname": "", "uuid": "u"},
        {"type": "task-sent", "hostname": "h" * 201, "uuid": "u"},
        {"type": "task-failed", "hostname": "h"},
        {"type": "task-failed", "hostname": "h", "uuid": 7},
        {"type": 3, "hostname": "h", "uuid": "u"},
    ],
)
def test_an_event_that_cannot_be_read_costs_only_itself(bad: Any) -> None:
    (part,) = decode(arrival(orjson.dumps([SENT, bad]))).parts
    assert [event.kind for event in part.events] == ["sent"]
    assert part.rejections is not None
    assert part.rejections.counts == {"invalid_celery": 1}
    with pytest.raises(EnvelopeError, match="no event can be counted") as refusal:
        decode(arrival(orjson.dumps([bad])))
    assert refusal.value.reason == "invalid_celery"


@pytest.mark.parametrize("type_", ["task-progress", "worker-", "custom-login", "task", "-"])
def test_an_event_that_no_metric_counts_is_rejected_by_a_reason_of_its_own(type_: str) -> None:
    envelope = decode(arrival(orjson.dumps([{**SENT, "type": type_}])))
    assert envelope.identity is None
    assert envelope.parts[0].rejections is not None
    assert envelope.parts[0].rejections.counts == {"celery_event": 1}


@pytest.mark.parametrize("odd", ["x", None, True, -1, 0, [], 1e400])
def test_odd_numbers_and_times_are_none(odd: Any) -> None:
    said = {"timestamp": odd, "runtime": odd, "active": odd, "clock": odd}
    body = orjson.dumps([SENT | said | {"type": "task-succeeded"}, HEARTBEAT | said])
    succeeded, heartbeat = decode(arrival(body)).parts[0].events
    assert isinstance(succeeded, TaskEvent)
    assert isinstance(heartbeat, WorkerEvent)
    assert succeeded.at == 0
    assert succeeded.runtime in (None, -1, 0)
    assert heartbeat.active == 0


def test_an_eta_is_a_time_before_which_a_task_does_not_begin() -> None:
    received = SENT | {"type": "task-received"}
    for eta, due in (
        ("2025-11-22T07:00:30+00:00", 1_763_794_830.0),
        ("2025-11-22T07:00:30", 1_763_794_830.0),
        ("2025-11-22T08:00:30+01:00", 1_763_794_830.0),
        ("2025-11-22T06:00:00+00:00", 0.0),
        ("9999-12-31T23:59:59+00:00", 0.0),
        ("soon", 0.0),
        (7, 0.0),
    ):
        assert events(received | {"eta": eta})[0].due == due, eta


def test_the_host_is_that_of_a_node() -> None:
    assert [host_of(node) for node in ("celery@h", "w1@h.example", "gen7@h", "h", "a@b@c", "x@")] == [
        *("h", "h.example", "h", "h", "c", "x@")
    ]
