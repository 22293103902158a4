"""A source is its user's: another user's envelopes are refused whole, and count for nobody."""

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.properties import make_relayed_properties
from busmon.bus.republish.relayed import state_first_publish
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.trigger import Trigger
from busmon.settings.kinds import FormatRule
from tests.unit.fleet.settlements import VOTE, Worker, body, delivery

RELAYED = Ownership(relays=frozenset({"fleet"}))
AT_GATE = Ownership(relays=frozenset({"fleet"}), gates={"telemetry.gate": "telemetry"})
GAUGE = {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 7}
FINAL = orjson.dumps({"v": 1, "source": "s", "agent": "planner", "samples": [], "final": True})
TOTAL = b"# TYPE jobs_total counter\njobs_total 10\n"


def test_another_users_next_sequence_is_refused_and_the_owners_counts(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, user_id="alice")])
        worker.lane.deliver([delivery(2, user_id="evil"), delivery(3, message_id="s:3")])
        worker.lane.deliver([delivery(4, message_id="s:2", user_id="alice")])
        worker.lane.close(Trigger.INTERVAL)
        refused = [call.headers for call in worker.broker.quarantined]
        assert [headers["reason"] for headers in refused] == ["foreign_source", "foreign_source"]
        assert refused[0]["original_user_id"] == "evil"
        assert refused[0]["detail"] == "foreign_source: the source 's' belongs to another user than user 'evil'"
        assert "original_user_id" not in refused[1]
        assert worker.votes() == 2
        assert worker.shows("busmon_envelopes_rejected_total", reason="foreign_source") == 2


def test_another_users_final_takes_no_gauge_away(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(GAUGE), user_id="alice"), delivery(2, FINAL, user_id="evil")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("queue_size", queue="tasks") == 7
        worker.lane.deliver([delivery(3, FINAL, message_id="s:2", user_id="alice")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("active_agents", type="planner") == 0


def test_the_owner_is_known_after_a_restart(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, user_id="alice")])
        worker.lane.close(Trigger.INTERVAL)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(2, user_id="evil")])
        worker.lane.close(Trigger.INTERVAL)
        assert (worker.votes(), len(worker.broker.quarantined)) == (1, 1)


def test_a_relay_publishes_for_others_and_nobody_else_does(tmp_path: Path) -> None:
    with Worker(tmp_path, ownership=RELAYED) as worker:
        named = {"source": "s", "original_user_id": "alice"}
        worker.lane.deliver([delivery(1, user_id="alice"), delivery(2, user_id="fleet", headers=named)])
        worker.lane.deliver([delivery(3, user_id="evil", headers=named), delivery(4, user_id="fleet")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.votes() == 2
        assert [call.headers["original_user_id"] for call in worker.broker.quarantined] == ["evil", "fleet"]


def test_other_formats_sources_are_each_users_own(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        deliveries = [
            delivery(tag, TOTAL, message_id=f"p{tag}", user_id=user, headers={"source": "host-1"})
            for tag, user in enumerate(("alice", "bob"), start=1)
        ]
        worker.lane.deliver([each._replace(routing_key="prometheus.a") for each in deliveries])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("jobs_total") == 20
        assert worker.broker.quarantined == []


def cloudevent(user: str | None, identity: str, **data: Any) -> Delivery:
    """A CloudEvent of one vote by a device, with its source in an attribute or in its data."""
    attributes = {"specversion": "1.0", "type": "t", "source": "/sensors/7", "id": identity}
    content = orjson.dumps({**attributes, "data": {"v": 1, "agent": "planner", "samples": [VOTE], **data}})
    return delivery(1, content, message_id=None, user_id=user, content_type="application/cloudevents+json")


def test_cloudevents_sources_are_each_users_own(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for user in ("evil", "alice", "alice", None):
            worker.lane.deliver([cloudevent(user, "A-1")])
        worker.lane.deliver([cloudevent("alice", "A-2")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.quarantined == []
        assert {*worker.registry.shard.ledger.sources} == {
            "evil\x1f/sensors/7",
            "alice\x1f/sensors/7",
            "/sensors/7",
        }
        assert worker.votes() == 4
        assert worker.shows("busmon_envelopes_deduplicated_total") == 1


def test_a_source_that_a_cloudevents_envelope_names_is_its_users(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, user_id="alice"), cloudevent("evil", "A-1", source="s")])
        worker.lane.close(Trigger.INTERVAL)
        assert [call.headers["reason"] for call in worker.broker.quarantined] == ["foreign_source"]
        assert worker.votes() == 1


def test_other_formats_reach_no_source_of_another_user(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        worker.lane.deliver([delivery(1, body(GAUGE), user_id="alice")])
        forged = b'# TYPE queue_size gauge\nqueue_size{queue="tasks"} 666\n'
        deliveries = [
            delivery(tag, forged, message_id=f"p{tag}", user_id=user, headers={"source": "s"})
            for tag, user in ((2, None), (3, "evil"))
        ]
        worker.lane.deliver([each._replace(routing_key="prometheus.a") for each in deliveries])
        worker.lane.close(Trigger.INTERVAL)
        assert [call.headers["reason"] for call in worker.broker.quarantined] == ["foreign_source"]
        assert {*worker.registry.shard.ledger.sources} == {"s", "evil\x1fs"}


def of_host(user: str | None, source: str, body: bytes = TOTAL) -> Delivery:
    """A body of Prometheus' text whose header names its source."""
    made = delivery(1, body, message_id=None, user_id=user, headers={"source": source})
    return made._replace(routing_key="prometheus.a")


@pytest.mark.parametrize("squatter", ["evil", None])
@pytest.mark.parametrize("separator", ["/", "\x1f"])
def test_no_publisher_can_open_anothers_source_of_another_format(
    squatter: str | None, separator: str, tmp_path: Path
) -> None:
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        names = [f"alice{separator}{source}" for source in ("/sensors/7", "host-1")]
        stated = [body(VOTE, source=name) for name in names]
        worker.lane.deliver([delivery(1, each, message_id="x", user_id=squatter) for each in stated])
        worker.lane.deliver([of_host(squatter, names[1], TOTAL.replace(b"10", b"1000"))])
        worker.lane.close(Trigger.INTERVAL)
        told, squatted = [call.headers["reason"] for call in worker.broker.quarantined], worker.votes()
        assert (told, squatted) == (([], 2) if separator == "/" else (["invalid_envelope"] * 2, 0))
        worker.lane.deliver([cloudevent("alice", "A-1"), of_host("alice", "host-1")])
        worker.lane.close(Trigger.INTERVAL)
        assert len(worker.broker.quarantined) == len(told)
        assert worker.votes() == squatted + 1
        assert worker.shows("jobs_total") == 1010
        assert {"alice\x1f/sensors/7", "alice\x1fhost-1"} <= {*worker.registry.shard.ledger.sources}


def test_no_cloudevent_can_open_anothers_source_of_another_format(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([cloudevent("evil", "A-1", source="alice\x1f/sensors/7"), cloudevent("alice", "A-1")])
        worker.lane.close(Trigger.INTERVAL)
        assert [call.headers["reason"] for call in worker.broker.quarantined] == ["invalid_envelope"]
        assert worker.votes() == 1


def test_users_whose_names_have_a_slash_share_no_source(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        worker.lane.deliver([of_host("a", "b/c"), of_host("a/b", "c")])
        worker.lane.close(Trigger.INTERVAL)
        assert {*worker.registry.shard.ledger.sources} == {"a\x1fb/c", "a/b\x1fc"}
        assert worker.shows("jobs_total") == 20


def test_a_total_goes_on_under_the_name_that_an_earlier_version_gave_its_source(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        worker.registry.shard.ledger.hear("alice/host-1", time.time(), "alice", "node")
        worker.lane.deliver([of_host("alice", "host-1"), of_host("bob", "host-1")])
        worker.lane.deliver([of_host("alice", "host-1", TOTAL.replace(b"10", b"12"))])
        worker.lane.close(Trigger.INTERVAL)
        assert {*worker.registry.shard.ledger.sources} == {"alice/host-1", "bob\x1fhost-1"}
        assert worker.shows("jobs_total") == 22


def test_a_source_keeps_its_name_when_its_user_states_the_earlier_one(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        worker.lane.deliver([of_host("alice", "host-1")])
        worker.lane.deliver([delivery(2, body(VOTE, source="alice/host-1"), message_id="x", user_id="alice")])
        worker.lane.deliver([of_host("alice", "host-1")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("jobs_total") == 10


def test_a_relayed_body_has_the_source_that_its_first_publish_has(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")], ownership=RELAYED) as worker:
        published = delivery(1, TOTAL, message_id="p1", user_id="alice", app_id="node")
        headers = {"original_user_id": "alice"}
        relayed = delivery(2, TOTAL, message_id="p2", user_id="fleet", app_id="node", headers=headers)
        worker.lane.deliver([each._replace(routing_key="prometheus.a") for each in (published, relayed)])
        worker.lane.close(Trigger.INTERVAL)
        assert {*worker.registry.shard.ledger.sources} == {"alice\x1fnode/alice/prometheus.a"}
        assert worker.shows("jobs_total") == 10


@pytest.mark.parametrize("relays", [0, 1, 2])
@pytest.mark.parametrize(("added", "reasons"), [(0, []), (1, ["large_properties"]), (60_000, ["large_properties"])])
@pytest.mark.parametrize("forger", [None, "alice"], ids=["without a user", "with a user"])
def test_properties_are_as_large_after_a_relay_as_before(
    tmp_path: Path, relays: int, added: int, reasons: list[str], forger: str | None
) -> None:
    forged = {"source": "s", "replayed": True, "large_properties": 1, "x": ""}
    others = len(delivery(1, user_id=forger, headers=forged).encoded_properties)
    published = delivery(1, user_id=forger, headers=forged | {"x": "y" * (16_384 - others + added)})
    with Worker(tmp_path, ownership=AT_GATE) as worker:
        worker.lane.deliver([forwarded(published, relays), delivery(2, user_id=forger)])
        worker.lane.close(Trigger.INTERVAL)
        refused = [call.headers for call in worker.broker.quarantined]
        assert [headers["reason"] for headers in refused] == reasons
        assert [headers.get("original_user_id") for headers in refused] == [forger] * len(reasons)
        said = f"large_properties: {16_384 + added} bytes of AMQP properties and headers; at most 16384 are accepted"
        assert [headers["detail"] for headers in refused] == [said] * len(reasons)
        assert worker.votes() == 2 - len(reasons)


def test_what_an_operator_replayed_is_still_replayed_when_it_was_forwarded() -> None:
    headers = {"original_user_id": "alice", "original_exchange": "celeryev", "replayed": True}
    for relays in range(3):
        found = AT_GATE.read_first_publish(forwarded(delivery(1, user_id="fleet", headers=headers), relays))
        assert found == ("alice", "celeryev", True, 0)


def forwarded(published: Delivery, times: int) -> Delivery:
    """A delivery that was forwarded so many times."""
    for _ in range(times):
        origin = state_first_publish(AT_GATE.read_first_publish(published), "telemetry")
        properties = make_relayed_properties(published.properties, origin, "fleet", 131_072)
        method = Basic.Deliver("busmon", 1, exchange="telemetry.gate", routing_key=published.routing_key)
        published = Delivery.from_pika(method, properties, published.body)
    return published


def test_where_a_user_is_required_a_relay_is_none(tmp_path: Path) -> None:
    with Worker(tmp_path, ownership=Ownership(relays=frozenset({"fleet"}), is_required=True)) as worker:
        worker.lane.deliver([delivery(1, user_id="fleet", headers={"original_user_id": ""})])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.votes() == 0
        assert [call.headers["reason"] for call in worker.broker.quarantined] == ["no_user"]


def test_where_a_user_is_required_an_envelope_without_one_is_refused(tmp_path: Path) -> None:
    with Worker(tmp_path, ownership=Ownership(is_required=True)) as worker:
        worker.lane.deliver([delivery(1, user_id="alice"), delivery(2, body(VOTE, source="t"), message_id="t:1")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.votes() == 1
        assert [call.headers["reason"] for call in worker.broker.quarantined] == ["no_user"]


def test_where_users_are_not_checked_a_source_is_everybodys(tmp_path: Path) -> None:
    with Worker(tmp_path, ownership=Ownership(is_checked=False)) as worker:
        worker.lane.deliver([delivery(1, user_id="alice"), delivery(2, user_id="bob"), delivery(3)])
        worker.lane.close(Trigger.INTERVAL)
        assert (worker.votes(), worker.broker.quarantined) == (3, [])
