"""The logs of a replicated fleet in the topology: read from the file, exported, compared."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from busmon.bus.topology.definitions import export_definitions, of_export
from busmon.bus.topology.inspect import differences
from busmon.bus.topology.topology import find_built_in, load
from busmon.errors import TopologyError

Document = dict[str, Any]
REPLICATED = load(None, "telemetry", "stream")
LIMITS = {
    "x-queue-type": "stream",
    "x-max-length-bytes": 1_073_741_824,
    "x-stream-max-segment-size-bytes": 67_108_864,
}


def changed(directory: Path, old: str, new: str) -> Path:
    text = find_built_in().read_text()
    assert old in text
    path = directory / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_without_replication_the_topology_has_no_log_and_the_fleet_no_further_rights() -> None:
    topology = load(None, "telemetry")
    assert topology.logs == ()
    assert "telemetry.log" not in {exchange.name for exchange in topology.exchanges}
    assert not [user for user in topology.users if "log" in user.write + user.read]
    assert not [binding for binding in topology.surplus if "log" in binding.source]


def test_each_shard_has_a_log_behind_the_logs_own_exchange() -> None:
    assert [(log.name, dict(log.arguments)) for log in REPLICATED.logs] == [
        (f"telemetry.log.{shard}", LIMITS) for shard in range(4)
    ]
    assert [str(binding) for binding in REPLICATED.bindings if binding.source == "telemetry.log"] == [
        f"'telemetry.log' → queue 'telemetry.log.{shard}' with key '{shard}'" for shard in range(4)
    ]
    assert REPLICATED.log_exchange == "telemetry.log"
    assert REPLICATED.log_stream(3) == "telemetry.log.3"
    assert REPLICATED.log_kept_bytes == 1_006_632_960
    assert REPLICATED.queues == load(None, "telemetry").queues


def test_the_fleet_may_read_the_logs_and_write_to_their_exchange_and_agents_may_neither() -> None:
    users = {user.role: user for user in load(None, "my.bus", "stream").users}
    fleet = users["consumer"]
    assert fleet.configure == r"^my\.bus\.shards$"
    assert fleet.write == r"^my\.bus\.(fold\.[0-9]+|gate|shards|quarantine)$|^my\.bus\.log$"
    assert fleet.read == (r"^my\.bus\.(fold\.[0-9]+|shards|gate|waiting|quarantine\.dropped)$|^my\.bus\.log\.[0-9]+$")
    assert (users["publisher"].write, users["publisher"].read) == (r"^my\.bus$", "^$")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            'name = "{exchange}.log.{shard}"',
            'name = "{exchange}.records.{shard}"',
            "queues: expected one with the name 'telemetry.log.0' and the x-queue-type 'stream', for replication",
        ),
        (
            'x-queue-type = "stream"',
            'x-queue-type = "stream"\nx-max-age = "7D"',
            "queue 'telemetry.log.0': x-max-age: expected none, for an idle log would lose its last snapshot",
        ),
        (
            "x-stream-max-segment-size-bytes = 67_108_864",
            "",
            "queue 'telemetry.log.0': x-stream-max-segment-size-bytes: expected a whole number of bytes",
        ),
        (
            "x-stream-max-segment-size-bytes = 67_108_864",
            "x-stream-max-segment-size-bytes = 500_000_000",
            "queue 'telemetry.log.0': x-max-length-bytes: expected at least 4 times x-stream-max-segment-size-bytes",
        ),
        (
            'name = "{exchange}.log" #',
            'name = "{exchange}.logs" #',
            "exchanges: expected one with the name 'telemetry.log'",
        ),
        (
            "[[users.consumer.further]]",
            "[[users.consumer.further]]\ntags = []",
            "users.consumer.further[0].tags: no such key; expected one of only_if, configure, write, read",
        ),
        (
            'only_if = "replication = stream"',
            'only_if = "replication = on"',
            "exchanges[6].only_if: expected 'shards = 1' or 'shards > 1' or 'celery' or 'replication = stream'",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(TopologyError) as caught:
        load(path, "telemetry", "stream")
    assert str(caught.value).removeprefix(f"{path}: ") == error


def test_a_stream_that_is_no_log_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, 'x-queue-type = "quorum"', 'x-queue-type = "stream"')
    with pytest.raises(TopologyError, match="has the x-queue-type 'stream', which only a log has"):
        load(path, "telemetry")


def definitions() -> Document:
    """Return the export with the logs, as a broker has them after `declare`."""
    document: Document = json.loads(json.dumps(export_definitions(REPLICATED, "/", {})))
    place = {"vhost": "/", "durable": True, "auto_delete": False}
    document["queues"] += [{**place, "name": log.name, "arguments": dict(log.arguments)} for log in REPLICATED.logs]
    document["bindings"] += [
        {
            "vhost": "/",
            "source": binding.source,
            "destination": binding.destination,
            "destination_type": "queue",
            "routing_key": binding.routing_key,
            "arguments": {},
        }
        for binding in REPLICATED.bindings
        if binding.source == "telemetry.log"
    ]
    return document


def test_an_export_has_no_log_since_only_declare_writes_a_first_record() -> None:
    document = export_definitions(REPLICATED, "/", {})
    assert "telemetry.log" in {exchange["name"] for exchange in document["exchanges"]}
    assert not [queue["name"] for queue in document["queues"] if ".log." in queue["name"]]
    assert not [binding for binding in document["bindings"] if binding["source"] == "telemetry.log"]


def policy(pattern: str, definition: Document, apply_to: str = "all") -> Callable[[Document], object]:
    table = {"vhost": "/", "name": "p", "pattern": pattern, "apply-to": apply_to, "definition": definition}
    return lambda document: document.update(policies=[table])


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda _: None, []),
        (
            lambda d: d.update(queues=[queue for queue in d["queues"] if queue["name"] != "telemetry.log.2"]),
            ["queue 'telemetry.log.2': is missing"],
        ),
        (
            lambda d: d["queues"][-1]["arguments"].update({"x-max-length-bytes": 5, "x-max-age": "1h"}),
            [
                "queue 'telemetry.log.3': x-max-age is '1h', should not be set",
                "queue 'telemetry.log.3': x-max-length-bytes is 5, should be 1073741824",
            ],
        ),
        (
            lambda d: d["queues"].append({**d["queues"][-1], "name": "telemetry.log.4"}),
            ["log 'telemetry.log.4': is read by nobody, for shards = 4"],
        ),
        (
            lambda d: d["bindings"].append({**d["bindings"][-1], "source": "telemetry"}),
            ["binding 'telemetry' → queue 'telemetry.log.3' with key '3': should not be there"],
        ),
        (
            policy(r"log\.1$", {"max-length-bytes": 1000}, "queues"),
            ["log 'telemetry.log.1': policy 'p' sets max-length-bytes to 1000, should be 1073741824"],
        ),
        (
            policy(r"log\.1$", {"max-age": "1D", "stream-max-segment-size-bytes": 500_000_000}, "streams"),
            [
                "log 'telemetry.log.1': policy 'p' sets max-age to '1D', should not be set",
                "log 'telemetry.log.1': policy 'p' sets stream-max-segment-size-bytes to 500000000, should be 67108864",
            ],
        ),
        (policy(r"log\.1$", {"max-length-bytes": 5_000_000_000}, "queues"), []),
        (policy(r"log\.1$", {"max-length-bytes": 1000}, "quorum_queues"), []),
        (policy(r"\.log\.", {"message-ttl": 1, "delivery-limit": 1}), []),
    ],
)
def test_each_difference_of_a_log_is_a_line(change: Callable[[Document], object], lines: list[str]) -> None:
    document = definitions()
    change(document)
    assert differences(REPLICATED, of_export(json.dumps(document), "broker.json", "/")) == lines


def test_logs_without_replication_are_named() -> None:
    document = definitions()
    found = differences(load(None, "telemetry"), of_export(json.dumps(document), "broker.json", "/"))
    assert [line for line in found if line.startswith("log ")] == [
        f"log 'telemetry.log.{shard}': is read by nobody, for replication = off" for shard in range(4)
    ]
