"""Differences, found in an export of the topology that something was done to."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from busmon.bus.topology.definitions import Definitions, export_definitions, of_export
from busmon.bus.topology.inspect import differences, missing_users
from busmon.bus.topology.topology import Queue, find_built_in, load
from busmon.bus.topology.users import tags_of
from busmon.errors import TopologyError

Document = dict[str, Any]
TOPOLOGY = load(None, "telemetry")
RING = TOPOLOGY.ring or pytest.fail("the built-in topology has several shards")


def export(change: Callable[[Document], object] = lambda _: None) -> Definitions:
    document = json.loads(json.dumps(export_definitions(TOPOLOGY, "/", {})))
    change(document)
    return of_export(json.dumps(document), "broker.json", "/")


def named(document: Document, kind: str, name: str) -> Document:
    found: Document = next(table for table in document[kind] if table.get("name", table.get("user")) == name)
    return found


def foreign(source: str, destination: str, kind: str = "queue") -> Document:
    place = {"vhost": "/", "routing_key": "#", "arguments": {}}
    return {**place, "source": source, "destination": destination, "destination_type": kind}


def policy(**changes: Any) -> Document:
    base = {
        "vhost": "/",
        "name": "p",
        "pattern": "",
        "apply-to": "all",
        "definition": {"message-ttl": 1},
        "priority": 0,
    }
    return {**base, **changes}


def test_the_topology_differs_in_nothing_from_its_own_export_which_leaves_the_ring_to_the_fleet() -> None:
    document = export_definitions(TOPOLOGY, "/", {})
    assert all(table["durable"] for table in document["exchanges"])
    assert "telemetry.shards" not in str(document["exchanges"]) + str(document["bindings"])
    assert differences(TOPOLOGY, export()) == []


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (
            lambda d: d["exchanges"].remove(named(d, "exchanges", "telemetry.gate")),
            ["exchange 'telemetry.gate': is missing"],
        ),
        (
            lambda d: d["exchanges"].append({**named(d, "exchanges", "telemetry.gate"), "name": "telemetry.shards"}),
            [
                "exchange 'telemetry.shards': type is 'fanout', should be 'x-consistent-hash'",
                "exchange 'telemetry.shards': is durable, should not be",
                "exchange 'telemetry.shards': alternate-exchange is 'telemetry.waiting', should not be set",
                "exchange 'telemetry.shards': hash-header is not set, should be 'source'",
                *(f"binding {binding}: is missing" for binding in RING.bindings),
            ],
        ),
        (
            lambda d: named(d, "exchanges", "telemetry").update(type="direct", durable=False),
            ["exchange 'telemetry': type is 'direct', should be 'topic'", "exchange 'telemetry': is not durable"],
        ),
        (
            lambda d: named(d, "exchanges", "telemetry")["arguments"].update({"alternate-exchange": "x"}),
            ["exchange 'telemetry': alternate-exchange is 'x', should not be set"],
        ),
        (
            lambda d: named(d, "queues", "telemetry.fold.1").update(auto_delete=True),
            ["queue 'telemetry.fold.1': deletes itself (auto-delete)"],
        ),
        (
            lambda d: named(d, "queues", "telemetry.fold.1")["arguments"].update({"x-single-active-consumer": 1}),
            ["queue 'telemetry.fold.1': x-single-active-consumer is 1, should be True"],
        ),
        (
            lambda d: named(d, "queues", "telemetry.fold.1")["arguments"].pop("x-overflow"),
            ["queue 'telemetry.fold.1': x-overflow is not set, should be 'reject-publish'"],
        ),
        (
            lambda d: d["queues"].append({**d["queues"][0], "name": "telemetry.fold.4"}),
            ["queue 'telemetry.fold.4': is consumed by nobody, for shards = 4"],
        ),
        (
            lambda d: d["bindings"].pop(0),
            ["binding 'telemetry' → exchange 'telemetry.gate' with key '#': is missing"],
        ),
        (
            lambda d: d["bindings"].append(foreign("amq.topic", "telemetry.quarantine")),
            ["binding 'amq.topic' → queue 'telemetry.quarantine' with key '#': should not be there"],
        ),
        (
            lambda d: d["bindings"].append(foreign("telemetry.shards", "elsewhere")),
            ["binding 'telemetry.shards' → queue 'elsewhere' with key '#': should not be there"],
        ),
        (
            lambda d: d["bindings"].append(foreign("telemetry.gate", "elsewhere")),
            ["binding 'telemetry.gate' → queue 'elsewhere' with key '#': should not be there"],
        ),
        (
            lambda d: named(d, "users", "telemetry-operator").update(tags=["monitoring"]),
            ["user 'telemetry-operator': has no tag management"],
        ),
        (
            lambda d: d["permissions"].remove(named(d, "permissions", "telemetry-consumer")),
            ["user 'telemetry-consumer': has no permissions in virtual host '/'"],
        ),
        (
            lambda d: named(d, "permissions", "telemetry-publisher").update(read=".*"),
            ["user 'telemetry-publisher': may read '.*', should be '^$'"],
        ),
        (
            lambda d: d.update(
                policies=[policy(pattern="shards$", definition={"alternate-exchange": "x", "ha-mode": 1})]
            ),
            ["exchange 'telemetry.shards': policy 'p' sets alternate-exchange"],
        ),
        (
            lambda d: d.update(
                parameters=[
                    {"vhost": "/", "component": "shovel", "name": "s", "value": {}},
                    {
                        "vhost": "/",
                        "component": "operator_policy",
                        "name": "limits",
                        # rabbitmqctl 3.10 writes an operator policy's definition as pairs.
                        "value": policy(pattern=r"fold\.0$", definition=[["max-length", 9]], **{"apply-to": "queues"}),
                    },
                ]
            ),
            ["queue 'telemetry.fold.0': policy 'limits' sets max-length"],
        ),
    ],
)
def test_each_difference_is_a_line(change: Callable[[Document], object], lines: list[str]) -> None:
    assert differences(TOPOLOGY, export(change)) == lines


NEWER = "x-consumer-disconnected-timeout"


def of_version(version: str, arguments: Document, *policies: Document) -> list[str]:
    """List the differences of a broker of this version whose shard 0 has these newer arguments."""

    def change(document: Document) -> None:
        document.update(rabbitmq_version=version, policies=[*policies])
        there = named(document, "queues", "telemetry.fold.0")["arguments"]
        del there[NEWER]
        there.update(arguments)

    return differences(TOPOLOGY, export(change))


@pytest.mark.parametrize("version", ["3.10.8", "4.2.6", ""])
def test_an_older_broker_may_have_or_lack_an_argument_that_it_does_not_know(version: str) -> None:
    assert of_version(version, {}) == of_version(version, {NEWER: 1000}) == []
    assert of_version(version, {NEWER: 7}) == [f"queue 'telemetry.fold.0': {NEWER} is 7, should be 1000"]


def test_a_newer_broker_lacks_it_unless_a_policy_gives_it() -> None:
    assert of_version("4.3.6", {NEWER: 1000}) == []
    assert of_version("4.3.6", {}) == [f"queue 'telemetry.fold.0': {NEWER} is not set, should be 1000"]
    definition = {"consumer-disconnected-timeout": 1000}
    given = policy(pattern=r"fold\.0$", definition=definition, **{"apply-to": "quorum_queues"})
    assert of_version("4.3.6", {}, given) == []
    assert of_version("4.3.6", {}, {**given, "pattern": r"fold\.1$"}) != []


def test_an_export_has_every_argument_since_a_broker_minds_none() -> None:
    queues = export_definitions(TOPOLOGY, "/", {})["queues"]
    assert [NEWER in queue["arguments"] for queue in queues] == [True] * 5 + [False] * 2


def test_a_type_that_rabbitmq_4_adds_is_as_good_as_none() -> None:
    """RabbitMQ 4 gives `classic` to a queue that is declared without a type, and tells it."""
    untyped = replace(TOPOLOGY, queues=tuple(_without_type(queue) for queue in TOPOLOGY.queues))
    document = json.loads(json.dumps(export_definitions(untyped, "/", {})))
    for given in ("classic", "quorum"):
        for queue in document["queues"]:
            queue["arguments"]["x-queue-type"] = given
        found = differences(untyped, of_export(json.dumps(document), "broker.json", "/"))
        expected = (
            []
            if given == "classic"
            else [f"queue {queue.name!r}: x-queue-type is 'quorum', should not be set" for queue in TOPOLOGY.queues]
        )
        assert found == expected


def _without_type(queue: Queue) -> Queue:
    return replace(queue, arguments={key: value for key, value in queue.arguments.items() if key != "x-queue-type"})


def test_a_classic_queue_is_no_quorum_queue_however_the_broker_says_it() -> None:
    def classic(document: Document) -> None:
        named(document, "queues", "telemetry.fold.0")["arguments"]["x-queue-type"] = "classic"
        named(document, "queues", "telemetry.fold.1")["arguments"].pop("x-queue-type")

    assert differences(TOPOLOGY, export(classic)) == [
        f"queue 'telemetry.fold.{shard}': x-queue-type is not set, should be 'quorum'" for shard in (0, 1)
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["bindings"].append(foreign("telemetry", "elsewhere")),
        lambda d: d["bindings"].append(foreign("", "telemetry.fold.0")),
        lambda d: d["queues"].append({**d["queues"][0], "name": "elsewhere"}),
        lambda d: d["queues"].append({**d["queues"][0], "name": "telemetry.fold.4", "vhost": "other"}),
        lambda d: d.update(policies=[policy(definition={"queue-leader-locator": "balanced"})]),
        lambda d: d.update(policies=[policy(vhost="other")]),
        lambda d: d.update(policies=[policy(pattern="^elsewhere$")]),
        lambda d: d.update(policies=[policy(**{"apply-to": "classic_queues"})]),
        lambda d: named(d, "users", "telemetry-operator").update(tags=["administrator", "management"]),
    ],
)
def test_what_others_have_is_no_difference(change: Callable[[Document], object]) -> None:
    assert differences(TOPOLOGY, export(change)) == []


def test_the_binding_of_celerys_events_may_be_there_and_has_to_be_where_it_is_asked_for() -> None:
    asked = load(None, "telemetry", with_celery=True)
    bound = of_export(json.dumps(export_definitions(asked, "/", {})), "it", "/")
    unbound = of_export(json.dumps(export_definitions(TOPOLOGY, "/", {})), "it", "/")
    assert differences(asked, bound) == []
    assert differences(replace(TOPOLOGY, users=()), bound) == []
    assert differences(replace(asked, users=()), unbound) == [
        "exchange 'celeryev': is missing",
        "binding 'celeryev' → exchange 'telemetry' with key '#': is missing",
    ]


def test_a_policy_whose_pattern_python_does_not_know_is_there_to_be_looked_at() -> None:
    found = export(lambda d: d.update(policies=[policy(pattern="(?|a)", **{"apply-to": "exchanges"})]))
    assert len(differences(TOPOLOGY, found)) == len(TOPOLOGY.exchanges)


def test_a_missing_user_is_named_and_is_no_difference() -> None:
    def remove(document: Document) -> None:
        for name in ("telemetry-consumer", "telemetry-operator"):
            document["users"].remove(named(document, "users", name))
            document["permissions"].remove(named(document, "permissions", name))

    found = export(remove)
    assert differences(TOPOLOGY, found) == []
    assert missing_users(TOPOLOGY, found) == ["telemetry-consumer", "telemetry-operator"]


def test_an_export_of_one_virtual_host_says_that_users_were_not_seen() -> None:
    document = export_definitions(TOPOLOGY, "/", {})
    of_host = {
        kind: [{key: value for key, value in table.items() if key != "vhost"} for table in document[kind]]
        for kind in ("exchanges", "queues", "bindings")
    }
    found = of_export(json.dumps(of_host), "broker.json", "/")
    assert found.unseen == ("users and permissions: broker.json is of one virtual host, which has none",)
    assert differences(TOPOLOGY, found) == []
    assert missing_users(TOPOLOGY, found) == []


def test_an_export_without_the_virtual_host_is_one_line() -> None:
    text = json.dumps(export_definitions(TOPOLOGY, "/", {}))
    with pytest.raises(TopologyError, match=r"^broker\.json: has no virtual host 'other'$"):
        of_export(text, "broker.json", "other")


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"exchanges": [{}], "queues": [], "bindings": []}'])
def test_what_is_no_export_is_one_line(text: str) -> None:
    with pytest.raises(TopologyError, match=r"^x: expected the JSON that `rabbitmqctl export_definitions` writes$"):
        of_export(text, "x", "/")


def test_an_exported_password_is_hashed_as_rabbitmq_does_and_never_alike() -> None:
    hashes = [export_definitions(TOPOLOGY, "/", {"consumer": "secret"})["users"][1]["password_hash"] for _ in range(2)]
    assert hashes[0] != hashes[1]
    raw = base64.b64decode(hashes[0])
    assert raw[4:] == hashlib.sha256(raw[:4] + b"secret").digest()
    assert "secret" not in json.dumps(hashes)


def test_without_a_password_nobody_can_log_in() -> None:
    assert [user["password_hash"] for user in export_definitions(TOPOLOGY, "/", {})["users"]] == ["", "", ""]


def test_tags_are_read_in_both_of_rabbitmqs_forms() -> None:
    assert tags_of({"tags": "management,monitoring"}) == tags_of({"tags": ["monitoring", "management"]})
    assert tags_of({"tags": ""}) == tags_of({"tags": []}) == tags_of({}) == set()


def test_one_shard_is_compared_without_the_sharding_exchange(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(find_built_in().read_text().replace("shards = 4", "shards = 1"))
    one = load(path, "telemetry")
    found = of_export(json.dumps(export_definitions(one, "/", {})), "x", "/")
    assert differences(one, found) == []
    assert "exchange 'telemetry.gate': is missing" in differences(TOPOLOGY, found)
    for queue in ("fold.3", "waiting"):
        assert f"queue 'telemetry.{queue}': is consumed by nobody, for shards = 1" in differences(one, export())
