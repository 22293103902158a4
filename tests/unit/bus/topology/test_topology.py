import re
from pathlib import Path

import pytest

from busmon.bus.topology import topology as module
from busmon.bus.topology.topology import Topology, find_built_in, load
from busmon.bus.topology.version import parse
from busmon.errors import TopologyError


def changed(directory: Path, old: str, new: str) -> Path:
    text = find_built_in().read_text()
    assert old in text
    path = directory / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.fixture
def topology() -> Topology:
    return load(None, "telemetry")


def test_the_built_in_topology_has_one_queue_a_shard(topology: Topology) -> None:
    assert [queue.name for queue in topology.queues] == [
        *(f"telemetry.fold.{shard}" for shard in range(4)),
        "telemetry.waiting",
        "telemetry.quarantine",
        "telemetry.quarantine.dropped",
    ]
    assert [topology.fold_queue(shard) for shard in range(4)] == [queue.name for queue in topology.queues[:4]]
    assert (topology.quarantine, topology.dropped) == ("telemetry.quarantine", "telemetry.quarantine.dropped")


def test_what_a_guarantee_hangs_on_is_an_argument_of_every_shards_queue(topology: Topology) -> None:
    for queue in topology.queues[: topology.shards]:
        promised = {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-overflow": "reject-publish",
            "x-delivery-limit": 100,
            "x-dead-letter-exchange": "telemetry.quarantine",
            "x-dead-letter-strategy": "at-least-once",
        }
        assert promised.items() <= dict(queue.arguments).items()
        assert {"x-max-length", "x-max-length-bytes"} <= queue.arguments.keys()


def test_a_source_decides_on_the_shard(topology: Topology) -> None:
    sharding = next(exchange for exchange in topology.exchanges if exchange.type == "x-consistent-hash")
    assert (sharding.name, sharding.arguments) == ("telemetry.shards", {"hash-header": "source"})
    assert {binding.routing_key for binding in topology.bindings if binding.source == "telemetry.shards"} == {"1"}


def test_the_ring_alone_is_not_durable_and_its_way_in_is_bound_last(topology: Topology) -> None:
    assert topology.ring is not None
    assert [exchange for exchange in topology.exchanges if not exchange.durable] == [topology.ring.exchange]
    assert [str(binding) for binding in topology.ring.bindings] == [
        *(f"'telemetry.shards' → queue 'telemetry.fold.{shard}' with key '1'" for shard in range(4)),
        "'telemetry.gate' → exchange 'telemetry.shards' with key ''",
    ]


def test_what_finds_no_ring_has_a_durable_way_to_a_queue_that_refuses_when_full(topology: Topology) -> None:
    gate = next(exchange for exchange in topology.exchanges if exchange.name == "telemetry.gate")
    assert (gate.type, gate.durable, gate.arguments) == ("fanout", True, {"alternate-exchange": "telemetry.waiting"})
    assert "'telemetry' → exchange 'telemetry.gate' with key '#'" in map(str, topology.bindings)
    assert "'telemetry.waiting' → queue 'telemetry.waiting' with key ''" in map(str, topology.bindings)
    waiting = next(queue for queue in topology.queues if queue.name == topology.waiting)
    assert waiting.arguments["x-overflow"] == "reject-publish"
    assert waiting.arguments["x-single-active-consumer"] is True


def test_one_shard_needs_no_plugin(tmp_path: Path) -> None:
    topology = load(changed(tmp_path, "shards = 4", "shards = 1"), "telemetry")
    assert "x-consistent-hash" not in {exchange.type for exchange in topology.exchanges}
    assert str(topology.bindings[0]) == "'telemetry' → queue 'telemetry.fold.0' with key '#'"
    assert "'telemetry' → exchange 'telemetry.gate' with key '#'" in map(str, topology.surplus)
    assert topology.ring is None
    assert topology.waiting not in {queue.name for queue in topology.queues}


def test_with_several_shards_a_direct_binding_is_surplus(topology: Topology) -> None:
    assert [str(binding) for binding in topology.surplus] == [
        f"'telemetry' → queue 'telemetry.fold.{shard}' with key '#'" for shard in range(4)
    ]


def test_celerys_events_are_bound_where_they_are_asked_for(topology: Topology, tmp_path: Path) -> None:
    line = "'celeryev' → exchange 'telemetry' with key '#'"
    asked = load(None, "telemetry", with_celery=True)
    stated = load(changed(tmp_path, "celery = false", "celery = true"), "telemetry")
    assert [str(binding) for binding in asked.bindings if binding not in topology.bindings] == [line]
    assert (stated.bindings, stated.exchanges, stated.users) == (asked.bindings, asked.exchanges, asked.users)
    (exchange,) = [exchange for exchange in asked.exchanges if exchange not in topology.exchanges]
    assert (exchange.name, exchange.type, exchange.durable, exchange.arguments) == ("celeryev", "topic", True, {})
    assert [str(binding) for binding in topology.optional] == [line]
    assert line not in map(str, topology.surplus)
    may = {
        user.role: [bool(re.search(right, "celeryev")) for right in (user.configure, user.write, user.read)]
        for user in asked.users
    }
    assert may == {"publisher": [False] * 3, "consumer": [False] * 3, "operator": [True] * 3}
    assert not re.search(topology.users[2].read, "celeryev")


def test_every_name_starts_with_the_exchanges(topology: Topology) -> None:
    other = load(None, "other.telemetry")
    assert str(other.queues).count("other.telemetry.") == str(topology.queues).count("telemetry.")
    assert {user.name for user in other.users} == {f"other.telemetry-{user.role}" for user in topology.users}


def test_a_permission_matches_the_exchanges_own_name_only() -> None:
    publisher, consumer, operator = load(None, "a.b").users
    assert re.search(publisher.write, "a.b")
    assert not re.search(publisher.write, "aXb")
    assert not re.search(publisher.write, "a.b.quarantine")
    assert re.search(consumer.read, "a.b.fold.17")
    assert re.search(consumer.read, "a.b.quarantine.dropped")
    assert not re.search(consumer.read, "a.b.quarantine")
    assert re.search(consumer.write, "a.b.quarantine")
    assert not re.search(consumer.write, "a.b")
    assert not re.search(consumer.read, "a.b")
    assert re.search(consumer.configure, "a.b.shards")
    assert not any(re.search(consumer.configure, name) for name in ("a.b", "a.b.gate", "a.b.fold.0", "a.b.shardsX"))
    assert not re.search(operator.configure, "a.bc")
    assert {publisher.configure, publisher.read} == {"^$"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("shards = 4", "shards = 0", "shards: expected a whole number from 1 to 256"),
        ("shards = 4", "shards = true", "shards: expected a whole number from 1 to 256"),
        ("shards = 4", "", "shards: expected a whole number from 1 to 256"),
        ("shards = 4", "shard = 4", "shard: no such key; expected one of shards, exchanges, queues, bindings, users"),
        ("shards = 4", "shard = 4", "bindings, users, celery; did you mean 'shards'?"),
        ("shards = 4", "shards = ", "expected valid TOML, each key once"),
        ('type = "topic"', "", "exchanges[0].type: expected a text"),
        ("celery = false", "celery = 1", "celery: expected true or false"),
        (
            "[users.operator.with_celery]",
            "[users.operator.with_x]",
            "users.operator.with_x: no such key; expected one of",
        ),
        ('type = "topic"', "kind = 1", "exchanges[0].kind: no such key; expected one of only_if, name, type"),
        (
            '"{exchange}.quarantine"\n',
            '"{exchnge}.quarantine"\n',
            "no placeholder {exchnge}; expected {exchange} or {shard}",
        ),
        ('name = "{exchange}.fold', 'name = "amq.fold', "queues[0].name: expected a name of 1 to 255 bytes"),
        ('name = "{exchange}.fold.{shard}"', "name = 7", "queues[0].name: expected a text"),
        (
            "x-max-length = 1_000_000",
            "x-max-length = []",
            "queues[0].arguments.x-max-length: expected a text, a whole number of 64 bits, true",
        ),
        ("x-max-length = 1_000_000", "x-max-length = 1e6", "queues[0].arguments.x-max-length: expected a text, a"),
        ("x-max-length = 1_000_000", f"x-max-length = {2**63}", "queues[0].arguments.x-max-length: expected a text"),
        ('arguments = { hash-header = "source" }', "arguments = 1", "exchanges[3].arguments: expected a table"),
        ("durable = false", "durable = 0", "exchanges[3].durable: expected true or false"),
        ("durable = false", "", "exchange 'telemetry.shards': expected durable = false with the type"),
        (
            'type = "topic"',
            'type = "topic"\ndurable = false',
            "expected durable = true with the type 'topic'",
        ),
        (
            'source = "{exchange}.gate"\nexchange = "{exchange}.shards"',
            'source = "{exchange}.gate"\nexchange = "{exchange}.waiting"',
            "bindings: expected those from 'telemetry.shards' first, then one to it",
        ),
        ('exchange = "{exchange}.shards"', "", "bindings[4].queue: expected either this or 'exchange'"),
        ('only_if = "shards > 1"', 'only_if = "shards > 2"', "only_if: expected 'shards = 1' or 'shards > 1'"),
        ("[users.publisher]", "[users.agent]", "users.agent.role: expected publisher, consumer or operator"),
        ("configure = '^$'", "configure = '('", "users.publisher.configure: expected a regular expression"),
        ('tags = ["management"]', 'tags = "management"', "users.operator.tags: expected a list of texts"),
        ('queue = "{exchange}.quarantine"', 'queue = "elsewhere"', "queues: expected one with the name 'elsewhere'"),
        ('name = "{exchange}.fold.{shard}"', 'name = "f"', "queues: expected one with the name 'telemetry.fold.0'"),
        ('name = "{exchange}"', 'name = "t"', "exchanges: expected one with the name 'telemetry'"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(TopologyError) as caught:
        load(path, "telemetry")
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["exchanges = 1\nshards = 1", "users = []\nshards = 1", "users = {a = 1}\nshards = 1"])
def test_what_is_no_table_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TopologyError, match=r"expected tables, each under \["):
        load(path, "telemetry")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"nowhere\.toml: .*No such file.*; expected a topology file in TOML$"):
        load(tmp_path / "nowhere.toml", "telemetry")


def test_an_installed_package_brings_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "busmon" / "topology" / "telemetry.toml"
    installed.parent.mkdir(parents=True)
    installed.write_text(find_built_in().read_text())
    monkeypatch.setattr(module, "__file__", str(tmp_path / "busmon" / "bus" / "topology" / "topology.py"))
    assert load(None, "telemetry").path == installed


@pytest.mark.parametrize(
    ("broker", "seconds"), [("3.10.8", None), ("4.2.6", None), ("4.3.0", 1000), ("4.3.6-rc.1", 1000), ("10.0", 1000)]
)
def test_a_lost_nodes_consumer_keeps_its_place_for_a_second_where_the_broker_knows_the_argument(
    topology: Topology, broker: str, seconds: int | None
) -> None:
    given = {
        queue.name: queue.arguments_on(parse(broker)).get("x-consumer-disconnected-timeout")
        for queue in topology.queues
        if "x-single-active-consumer" in queue.arguments
    }
    assert given == dict.fromkeys([*(f"telemetry.fold.{shard}" for shard in range(4)), "telemetry.waiting"], seconds)


@pytest.mark.parametrize("told", ["", "latest", None, "4", 4.3])
def test_a_broker_that_tells_no_version_gets_what_every_broker_knows(topology: Topology, told: object) -> None:
    queue = topology.queues[0]
    assert queue.arguments_on(parse(told)) == queue.arguments


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("soon = {}", ": expected tables of RabbitMQ's versions, such as"),
        ('"4" = {}', ": expected tables of RabbitMQ's versions, such as"),
        ('"4.3" = 5', ".4.3: expected a table"),
        ('"4.4" = { x-what = 1.5 }', ".4.4.x-what: expected a text, a whole number of 64 bits, true or false"),
    ],
)
def test_a_mistake_in_newer_arguments_is_named(tmp_path: Path, new: str, said: str) -> None:
    path = changed(
        tmp_path, '[queues.arguments_since."4.3"]', f"[queues.arguments_since]\n{new}\n[queues.arguments_since.x]"
    )
    text = path.read_text().replace("[queues.arguments_since.x]", "#", 1)
    path.write_text(text.replace("x-consumer-disconnected-timeout", "# ", 1))
    with pytest.raises(TopologyError, match=re.escape(f"{path}: queues[0].arguments_since{said}")):
        load(path, "telemetry")


def test_newer_arguments_are_a_table(tmp_path: Path) -> None:
    path = changed(tmp_path, "[queues.arguments]", "arguments_since = 3\n[queues.arguments]")
    text = path.read_text().replace('[queues.arguments_since."4.3"]', "#", 1)
    path.write_text(text.replace("x-consumer-disconnected-timeout", "# ", 1))
    with pytest.raises(TopologyError, match=re.escape(f"{path}: queues[0].arguments_since: expected tables of")):
        load(path, "telemetry")
