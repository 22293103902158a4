"""On a real broker, with the rights of the shipped topology's users: nobody publishes another user's source."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pika
import pytest

from busmon import Telemetry
from busmon.bus.operator.quarantine import Quarantine
from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import load
from busmon.demo.broker import PrivateNode
from busmon.settings import Settings
from tests.broker.topologies import Client
from tests.conftest import Vhost
from tests.fleet.real_fleet import RealFleet
from tests.fleet.users import Publisher, Users, users
from tests.patience import wait_until

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}
GAUGE = {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 7}


@pytest.fixture
def made(node: PrivateNode, vhost: Vhost, tmp_path: Path) -> Iterator[Users]:
    with users(node, vhost, tmp_path) as made:
        yield made


def refused(fleet: RealFleet, reason: str) -> float:
    lines = fleet.get("/metrics")[1].decode().splitlines()
    found = [line for line in lines if line.startswith(f'busmon_envelopes_rejected_total{{reason="{reason}"}}')]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def test_who_knows_a_source_can_neither_count_nor_end_for_it(made: Users) -> None:
    victim, evil = f"{made.exchange}-publisher", made.add_publisher("evil")
    with made.fleet() as fleet, Publisher(made, victim) as honest, Publisher(made, evil) as attacker:
        honest.envelope("source-1", 1, [VOTE, GAUGE])
        fleet.wait_for_total("votes_cast_total", 1)
        claim = {"original_user_id": victim}
        for sequence in (2, 3, 4):
            attacker.envelope("source-1", sequence, [])
            attacker.envelope("source-1", sequence, [], signed=False, headers=claim)
        attacker.envelope("source-1", 5, [], final=True, signed=False)
        attacker.envelope("source-1", 5, [], final=True, headers=claim)
        for sequence in (2, 3, 4):
            honest.envelope("source-1", sequence, [VOTE])
        fleet.wait_for_total("votes_cast_total", 4)
        assert fleet.totals()["queue_size"] == 7
        assert refused(fleet, "foreign_source") == 8
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="user_id"):
            attacker.publish(b"{}", user_id=victim)


def test_the_sdk_signs_and_another_user_cannot_go_on_with_its_source(made: Users) -> None:
    victim, evil = f"{made.exchange}-publisher", made.add_publisher("evil")
    with made.fleet() as fleet:
        settings = Settings(amqp_url=made.url(victim), exchange=made.exchange)
        with Telemetry("planner", settings=settings, lifecycle=False) as telemetry:
            telemetry.counter("votes_cast_total", labelnames=["type"]).labels("upvote").inc()
            telemetry.flush(30)
            fleet.wait_for_total("votes_cast_total", 1)
            with Publisher(made, evil) as attacker:
                attacker.envelope(telemetry.source, 2, [VOTE])
            wait_until(lambda: refused(fleet, "foreign_source") == 1, "the refusal")
            telemetry.counter("votes_cast_total", labelnames=["type"]).labels("upvote").inc()
            telemetry.flush(30)
        fleet.wait_for_total("votes_cast_total", 2)


def test_a_replay_counts_for_the_user_that_published_and_for_no_other(made: Users) -> None:
    victim, evil = f"{made.exchange}-publisher", made.add_publisher("evil")
    with made.fleet() as fleet, Publisher(made, victim) as honest, Publisher(made, evil) as attacker:
        honest.envelope("source-1", 1, [VOTE])
        honest.publish(b'{"v": 1,', message_id="source-1:2", headers={"source": "source-1"})
        attacker.envelope("source-1", 3, [VOTE], headers={"original_user_id": victim})
        wait_until(lambda: refused(fleet, "invalid_json") + refused(fleet, "foreign_source") == 2, "both refusals")
        environment = made.environment(f"{made.exchange}-operator")
        command = [sys.executable, "-P", "-m", "busmon", "quarantine"]
        ran = subprocess.run(
            [*command, "replay", "--all"], env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        assert "2" in ran.stdout
        wait_until(lambda: refused(fleet, "foreign_source") == 2, "the forged one to be refused again")
        wait_until(lambda: refused(fleet, "invalid_json") == 2, "the invalid one to be refused again")
        honest.envelope("source-1", 3, [VOTE])
        fleet.wait_for_total("votes_cast_total", 2)
        listed = subprocess.run(
            [*command, "list", "--json"], env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        assert {body["reason"] for body in json.loads(listed.stdout)["bodies"]} == {"invalid_json", "foreign_source"}


def test_headers_of_an_expired_envelope_make_a_replay_count_for_nobody_else(made: Users) -> None:
    victim, evil = f"{made.exchange}-publisher", made.add_publisher("evil")
    forged = {
        "quarantined_at": "1763794800.5",
        "reason": "invalid_json",
        "original_user_id": victim,
        "original_routing_key": "victim.task",
        "original_exchange": "celeryev",
    }
    operate = partial(_operate, made)
    with Publisher(made, victim) as honest, Publisher(made, evil) as attacker:
        with made.fleet() as fleet:
            honest.envelope("source-1", 1, [VOTE])
            fleet.wait_for_total("votes_cast_total", 1)
        for sequence, signed in ((2, True), (3, False)):
            attacker.envelope("source-1", sequence, [VOTE], signed=signed, headers=forged, expiration="1")
        wait_until(lambda: len(operate("list")) == 2, "RabbitMQ to dead-letter both")
        assert {body["reason"] for body in operate("list")} == {"expired"}
        assert {body["routing_key"] for body in operate("list")} == {"any.task"}
        with made.fleet() as fleet:
            operate("replay")
            wait_until(lambda: refused(fleet, "foreign_source") == 2, "the forged to be refused")
            wait_until(lambda: len(operate("list")) == 2, "both in quarantine, by a worker now")
            operate("replay")
            wait_until(lambda: refused(fleet, "foreign_source") == 4, "the forged to be refused again")
            honest.envelope("source-1", 2, [VOTE])
            honest.envelope("source-1", 3, [VOTE])
            fleet.wait_for_total("votes_cast_total", 3)
            wait_until(lambda: len(operate("list")) == 2, "both in quarantine")
            assert {body["reason"] for body in operate("list")} == {"foreign_source"}


def _operate(made: Users, action: str) -> list[dict[str, Any]]:
    """Replay all bodies of the quarantine, or list them."""
    command = [sys.executable, "-P", "-m", "busmon", "quarantine"]
    ran = subprocess.run(
        [*command, *(["replay", "--all"] if action == "replay" else ["list", "--json"])],
        env=made.environment(f"{made.exchange}-operator"),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found: list[dict[str, Any]] = json.loads(ran.stdout)["bodies"] if action == "list" else []
    return found


EVENT = {
    "type": "task-sent",
    "hostname": "gen1@shop",
    "pid": 7,
    "clock": 1,
    "uuid": "a",
    "name": "tasks.pay",
    "queue": "orders",
    "timestamp": 1_763_794_800.0,
}


def sent(fleet: RealFleet) -> float:
    """The tasks that Celery's clients have sent."""
    return fleet.totals().get("celery_task_sent_total", 0.0)


def event(uuid: str) -> bytes:
    return orjson.dumps({**EVENT, "uuid": uuid})


def test_only_what_came_through_celerys_exchange_is_celerys(made: Users, vhost: Vhost) -> None:
    evil = made.add_publisher("evil")
    declare(load(None, made.exchange, with_celery=True), vhost.amqp_url, None, {})
    with Publisher(made, evil) as attacker, Client(vhost.amqp_url) as celery, made.fleet() as fleet:
        celery.publish(event("a"), pika.BasicProperties(content_type="application/json"), exchange="celeryev")
        wait_until(lambda: sent(fleet) == 1, "Celery's event")
        claims = {"original_exchange": "celeryev", "original_user_id": ""}
        for number, signed in enumerate((True, False)):
            for headers in ({}, claims):
                attacker.publish(event(f"b{number}"), signed=signed, content_type="application/json", headers=headers)
        attacker.publish(orjson.dumps([EVENT, EVENT]), content_type="application/json")
        wait_until(lambda: refused(fleet, "invalid_celery") == 5, "the forged to be refused")
        _operate(made, "replay")
        wait_until(lambda: refused(fleet, "invalid_celery") == 10, "the forged to be refused again")
        celery.publish(event("c"), pika.BasicProperties(content_type="application/json"), exchange="celeryev")
        wait_until(lambda: sent(fleet) == 2, "Celery's next event")


def test_celerys_events_that_waited_or_were_quarantined_are_celerys(made: Users, vhost: Vhost) -> None:
    declare(load(None, made.exchange, with_celery=True), vhost.amqp_url, None, {})
    stated = pika.BasicProperties(content_type="application/json")
    with Client(vhost.amqp_url) as celery:
        celery.channel.exchange_delete(f"{made.exchange}.shards")
        celery.publish(event("waits"), stated, exchange="celeryev")
        celery.until_ready(f"{made.exchange}.waiting", 1)
        with made.fleet() as fleet:
            wait_until(lambda: sent(fleet) == 1, "the event that waited")
        with made.fleet(BUSMON_SOURCE_OWNERSHIP="required") as fleet:
            celery.publish(event("unsigned"), stated, exchange="celeryev")
            wait_until(lambda: refused(fleet, "no_user") == 1, "the refusal")
        with made.fleet() as fleet:
            wait_until(lambda: len(_operate(made, "list")) == 1, "the body in quarantine")
            _operate(made, "replay")
            wait_until(lambda: sent(fleet) == 2, "the event that was replayed")
            assert refused(fleet, "invalid_celery") == 0


def test_properties_of_the_largest_size_count_and_larger_do_not_whether_they_waited_or_not(
    made: Users, vhost: Vhost
) -> None:
    user = f"{made.exchange}-publisher"
    sizes = (16_384, 16_385, 60_000)
    with Publisher(made, user) as honest:
        with Client(vhost.amqp_url) as client:
            client.channel.exchange_delete(f"{made.exchange}.shards")
            for sequence, size in enumerate(sizes, start=1):
                _publish_sized(honest, user, sequence, size)
            client.until_ready(f"{made.exchange}.waiting", 3)
        with made.fleet() as fleet:
            wait_until(lambda: refused(fleet, "large_properties") == 2, "the larger to be refused after they waited")
            for sequence, size in enumerate(sizes, start=11):
                _publish_sized(honest, user, sequence, size)
            wait_until(lambda: refused(fleet, "large_properties") == 4, "the larger to be refused")
            fleet.wait_for_total("votes_cast_total", 2)
            _publish_sized(honest, user, 1, sizes[0])
            fleet.wait_for_total("busmon_envelopes_deduplicated_total", 1)
            assert fleet.totals()["votes_cast_total"] == 2
            wait_until(lambda: len(_operate(made, "list")) == 4, "all in quarantine")
    with Quarantine(made.url(f"{made.exchange}-operator"), made.topology) as quarantine:
        bodies = [step.body for step in quarantine.look()]
    said = "bytes of AMQP properties and headers; at most 16384 are accepted"
    assert {body.publisher for body in bodies} == {user}
    assert sorted(body.cause.detail for body in bodies) == [
        f"large_properties: {size} {said}" for size in (16_385, 16_385, 60_000, 60_000)
    ]


def _publish_sized(publisher: Publisher, user: str, sequence: int, size: int) -> None:
    """Publish a vote with properties of so many bytes."""
    message_id = f"source-1:{sequence}"
    headers = {"source": "source-1", "text": ""}
    stated = pika.BasicProperties(message_id=message_id, user_id=user, headers=headers, delivery_mode=2)
    headers["text"] = "x" * (size - len(b"".join(stated.encode())))
    body = orjson.dumps({"v": 1, "source": "source-1", "agent": "planner", "samples": [VOTE]})
    publisher.publish(body, message_id=message_id, headers=headers)


def test_one_user_with_ever_new_sources_costs_no_other_its_gauges(made: Users) -> None:
    victim, evil = f"{made.exchange}-publisher", made.add_publisher("evil")
    with made.fleet() as fleet, Publisher(made, victim) as honest, Publisher(made, evil) as attacker:
        for number in range(40):
            honest.envelope(f"live-{number}", 1, [VOTE], agent="planner")
        fleet.wait_for_total("votes_cast_total", 40)
        bodies = count()

        def is_evicted() -> bool:
            body = next(bodies)
            attacker.publish(_resources(body, 5000), content_type="application/json", message_id=f"flood-{body}")
            return fleet.totals().get("busmon_sources_evicted_total", 0.0) > 0

        wait_until(is_evicted, "an eviction")
        for number in range(40):
            honest.envelope(f"live-{number}", 1, [VOTE], agent="planner")
            honest.envelope(f"live-{number}", 2, [VOTE], agent="planner")
        fleet.wait_for_total("votes_cast_total", 80)
        lines = fleet.get("/metrics")[1].decode().splitlines()
        assert 'active_agents{type="planner"} 40.0' in lines
        assert not [line for line in lines if line.startswith("busmon_sources_evicted_total") and "planner" in line]


def _resources(body: int, count: int) -> bytes:
    """An OTLP body of so many resources, each a source of its own."""
    resources = [
        {"resource": {"attributes": [{"key": "service.instance.id", "value": {"stringValue": f"{body}-{number}"}}]}}
        for number in range(count)
    ]
    return orjson.dumps({"resourceMetrics": resources})
