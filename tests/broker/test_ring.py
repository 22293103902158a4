"""The ring against a real broker: a source keeps its shard whatever happens, and what finds no ring waits for it."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import repeat
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from pika import BasicProperties
from pika.exceptions import NackError

from busmon.bus.connect import retry
from busmon.bus.consume import ringing
from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import load
from busmon.errors import TopologyError

from .consuming import Running
from .topologies import Client, Place

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.bus.consume.ringing import RingMaker
    from busmon.demo.broker import PrivateNode

SOURCES = 60
WAITING = "telemetry.waiting"
FOLDS = tuple(f"telemetry.fold.{shard}" for shard in range(4))
FULL = ("x-max-length = 1_000_000\nx-max-length-bytes = 1_073_741_824 #", "x-max-length = 1\n#")


@pytest.fixture
def place(vhost: Any, tmp_path: Path) -> Place:
    return Place.declared(vhost.amqp_url, tmp_path)


def working(place: Place, *queues: str) -> Running:
    """A consumer that owns shard 0's other duties, and consumes no shard unless told to."""
    return Running(place.amqp_url, *(queues or ("telemetry.quarantine.dropped",)), topology=place.topology)


def publish(client: Client, sources: int = SOURCES) -> None:
    for source in range(sources):
        client.publish(b"%d" % source, BasicProperties(message_id=f"{source}:1", headers={"source": f"s{source}"}))


def shards(client: Client) -> dict[bytes, str]:
    """Take everything off the shards' queues: which had which body."""
    return {taken.body: fold for fold in FOLDS for taken in client.take(fold, client.ready(fold))}


def dealt(place: Place) -> dict[bytes, str]:
    """Read the shard that each source belongs to now."""
    with Client(place.amqp_url) as client:
        publish(client)
        client.until(lambda: sum(map(client.ready, FOLDS)) == SOURCES, "all in the shards' queues")
        return shards(client)


def test_a_source_keeps_its_shard_over_kills_and_stops_of_the_broker(
    dedicated_node: PrivateNode, tmp_path: Path
) -> None:
    place = Place.declared(dedicated_node.amqp_url, tmp_path)
    first = dealt(place)
    for orderly in (False, True):
        if orderly:
            dedicated_node.rabbitmqctl("stop")
        dedicated_node.restart()
        with Client(place.amqp_url) as client:
            publish(client)
            client.until(partial(has_stored, client), "all stored")
            # A broker on Khepri keeps the ring over a restart: nothing waits.
            waiting = client.ready(WAITING)
            assert waiting in {0, SOURCES}
            with working(place) as running:
                running.until(partial(has_forwarded, running, waiting))
            assert shards(client) == first
        assert dealt(place) == first


def test_what_finds_no_ring_waits_and_arrives_unchanged(place: Place) -> None:
    first = dealt(place)
    with Client(place.amqp_url) as client:
        client.channel.exchange_delete("telemetry.shards")
        client.channel.queue_declare("foreign", exclusive=True)
        client.channel.queue_bind("foreign", "telemetry", "agent.#")
        publish(client)
        stated = BasicProperties(app_id="agent", headers={"source": "s0", "published_at_ns": 7})
        client.publish_many([(b"unchanged", stated)], "telemetry")
        client.until_ready(WAITING, SOURCES + 1)
        with working(place) as later:
            later.until(lambda: later.consumer.forwarded == SOURCES + 1)
        client.until_ready(WAITING, 0)
        assert client.ready("foreign") == SOURCES + 1
        assert {body: fold for body, fold in shards_and(client, stated).items() if body in first} == first


def shards_and(client: Client, wanted: BasicProperties) -> dict[bytes, str]:
    """As `shards`, and the body `unchanged` has the properties wanted."""
    found = {}
    for fold in FOLDS:
        for taken in client.take(fold, client.ready(fold)):
            found[taken.body] = fold
            assert taken.routing_key == "agent.task"
            assert taken.body != b"unchanged" or taken.properties == wanted
    assert b"unchanged" in found
    return found


def test_what_is_full_refuses_whether_the_ring_is_there_or_not(vhost: Any, tmp_path: Path) -> None:
    place = Place.declared(vhost.amqp_url, tmp_path, ("x-max-length = 1_000_000", "x-max-length = 1"))
    with Client(place.amqp_url) as client:
        with pytest.raises(NackError):
            publish_one_source(client)
        client.channel.exchange_delete("telemetry.shards")
        with pytest.raises(NackError):
            publish_one_source(client)
        assert client.ready(WAITING) > 0


def publish_one_source(client: Client) -> None:
    for number in range(10):
        client.publish(b"%d" % number, BasicProperties(headers={"source": "s"}))


def test_what_a_full_shard_refuses_goes_on_waiting_and_is_named(vhost: Any, tmp_path: Path) -> None:
    place = Place.declared(vhost.amqp_url, tmp_path, FULL)
    with Client(place.amqp_url) as client:
        with pytest.raises(NackError):
            publish_one_source(client)
        client.channel.exchange_delete("telemetry.shards")
        publish_one_source(client)
        with working(place) as running:
            running.until(lambda: running.consumer.reconnects["forward_refused"] >= 2)
            (obstacle,) = running.consumer.obstacles
            assert obstacle.startswith(f"what waits in '{WAITING}' isn't forwarded: forward_refused: nacked")
            while running.consumer.forwarded < 10:
                running.until(lambda: any(map(client.ready, FOLDS)))
                shards(client)
                running.until(lambda: any(map(client.ready, FOLDS)) or running.consumer.forwarded == 10)
            assert not running.consumer.obstacles


def test_a_ring_deleted_by_hand_is_made_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ringing, "DOUBT_SECONDS", 0.0)
    first = dealt(place)
    with working(place) as running, Client(place.amqp_url) as client:
        client.channel.exchange_delete("telemetry.shards")
        publish(client)
        running.until(lambda: running.consumer.forwarded == SOURCES)
        assert shards(client) == first
    assert dealt(place) == first


def test_while_a_shards_queue_is_missing_no_source_moves(place: Place) -> None:
    first = dealt(place)
    with working(place, *FOLDS[1:2]) as running, Client(place.amqp_url) as client:
        running.until_consuming()
        client.channel.queue_delete(FOLDS[1])
        running.until(lambda: running.heard.states[FOLDS[1]][-1] == "missing")
        publish(client)
        # RabbitMQ 4.3 may first close the connection: it fails at a binding to an exchange that is being deleted.
        missing = "ring_incomplete: NOT_FOUND - no queue 'telemetry.fold.1'"
        running.until(lambda: any(missing in obstacle for obstacle in running.consumer.obstacles))
        assert not sum(client.ready(fold) for fold in FOLDS if fold != FOLDS[1])
        declare(place.topology, place.amqp_url, None, {})
        running.until(lambda: running.consumer.forwarded == SOURCES)
        running.until_consuming()
        expected = [*first.values()].count(FOLDS[1])
        mine = {delivery.body: FOLDS[1] for delivery in running.until_delivered(expected)}
        others = {taken.body: f for f in FOLDS if f != FOLDS[1] for taken in client.take(f, client.ready(f))}
        assert mine | others == first
        running.settle_all()
    assert dealt(place) == first


def test_a_remnant_of_the_ring_keeps_no_worker_from_consuming(place: Place, node: PrivateNode, vhost: Any) -> None:
    if node.rabbitmqctl("--silent", "eval", "rabbit_feature_flags:is_enabled(khepri_db).").strip() != "true":
        pytest.skip("only a broker that keeps its exchanges in Khepri can have a remnant of one")
    first = dealt(place)
    path = f'[rabbitmq, vhosts, <<"{vhost.name}">>, exchanges, <<"telemetry.shards">>, consistent_hash_ring_state]'
    ring = f'{{chx_hash_ring, rabbit_misc:r(<<"{vhost.name}">>, exchange, <<"telemetry.shards">>), #{{}}, 0}}'
    with working(place, *FOLDS[1:2]) as running, Client(place.amqp_url) as client:
        running.until_consuming()
        client.channel.exchange_delete("telemetry.shards")
        assert node.rabbitmqctl("--silent", "eval", f"rabbit_khepri:put({path}, {ring}).").strip() == "ok"
        client.channel.queue_delete(FOLDS[1])
        running.until(lambda: running.heard.states[FOLDS[1]][-1] == "missing")
        declare(place.topology, place.amqp_url, None, {})
        running.until_consuming()
        assert running.consumer.reconnects["connection_closed"] == 0
    with working(place) as running, Client(place.amqp_url) as client:
        publish(client)
        running.until(lambda: sum(map(client.ready, FOLDS)) == SOURCES)
        assert shards(client) == first


@pytest.mark.parametrize("permitted", [True, False])
def test_a_fleet_without_the_right_says_so_and_consumes(vhost: Any, node: PrivateNode, permitted: bool) -> None:  # noqa: FBT001
    exchange = f"telemetry-{secrets.token_hex(6)}"
    topology = load(None, exchange)
    user = f"{exchange}-consumer"
    declare(topology, vhost.amqp_url, vhost.management_url, {"consumer": "secret"})
    try:
        if not permitted:
            narrow = {"configure": "^$", "write": "^$", "read": ".*"}
            node.management("PUT", f"/api/permissions/{vhost.name}/{user}", narrow)
        url = vhost.amqp_url.replace("guest:guest", f"{user}:secret")
        with Client(vhost.amqp_url) as client, Running(url, f"{exchange}.fold.0", topology=topology) as running:
            running.until_consuming()
            for source in range(20):
                client.publish(b"{}", BasicProperties(headers={"source": f"{source}"}), exchange=exchange)
            assert running.until_delivered(1)
            client.channel.exchange_delete(f"{exchange}.shards")
            client.publish(b"{}", BasicProperties(headers={"source": "waits"}), exchange=exchange)
            running.until(lambda: running.consumer.forwarded or running.consumer.obstacles)
            assert bool(running.consumer.forwarded) == permitted
            assert permitted or "access_refused: ACCESS_REFUSED" in running.consumer.obstacles[0]
    finally:
        node.management("DELETE", f"/api/users/{user}")


def test_what_expires_while_it_waits_is_in_the_quarantine(place: Place) -> None:
    expiring = BasicProperties(headers={"source": "s"}, expiration="100")
    with Client(place.amqp_url) as client:
        client.channel.exchange_delete("telemetry.shards")
        client.publish(b"late", expiring)
        (taken,) = client.take("telemetry.quarantine")
        assert taken.body == b"late"
        assert taken.properties.headers["x-first-death-reason"] == "expired"


def test_a_full_shard_holds_up_no_other_shards_envelopes(vhost: Any, tmp_path: Path) -> None:
    place = Place.declared(vhost.amqp_url, tmp_path, FULL)
    with Client(place.amqp_url) as client:
        with pytest.raises(NackError):
            publish_one_source(client)
        (stuck,) = (fold for fold in FOLDS if client.ready(fold))
        client.channel.exchange_delete("telemetry.shards")
        publish_one_source(client)
        publish(client)
        others = [fold for fold in FOLDS if fold != stuck]
        with working(place, *others) as running:
            running.until(lambda: arrived(running, others) >= 30)
            assert running.consumer.obstacles


def arrived(running: Running, folds: list[str]) -> int:
    """How many envelopes came; none of them is settled."""
    return len({body for fold in folds for body in running.heard.bodies(fold)})


def test_the_order_of_the_ring_holds_whoever_deletes_and_declares_while_it_is_made(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "reconnect_waits", lambda: repeat(0.01))
    first = dealt(place)
    random = Random(7)
    with working(place) as running, ThreadPoolExecutor() as operator:
        running.until(lambda: running.heard.states[running.queue] == ["consuming"])
        forwarder, breaker = running.consumer._forwarder, running.consumer._breaker
        assert forwarder is not None
        assert breaker is not None
        for _ in range(12):
            declaring = operator.submit(declare_if_possible, place)
            while not declaring.done():
                running.ioloop.call_later(random.random() / 100, forwarder.maker._make)
                running.ioloop.call_later(random.random() / 100, lambda: breaker.lose(FOLDS[1]))
                running.until(partial(has_passed, time.monotonic() + 0.02))
        running.until(lambda: forwarder.maker._channel is None and not breaker.is_broken)
        forwarder.maker._make()
        running.until(partial(is_made, forwarder.maker))
    assert dealt(place) == first


def has_stored(client: Client) -> bool:
    return sum(map(client.ready, (WAITING, *FOLDS))) == SOURCES


def has_forwarded(running: Running, count: int) -> bool:
    return running.consumer.forwarded == count


def is_made(maker: RingMaker) -> bool:
    """Doubt the ring, as each waiting envelope does, until the ring stands: a lost connection ends a rebuild."""
    maker.doubt()
    return maker.stands


def has_passed(moment: float) -> bool:
    return time.monotonic() > moment


def declare_if_possible(place: Place) -> None:
    """Declare as an operator does, whose ring may be deleted while it is made."""
    with suppress(TopologyError):
        declare(place.topology, place.amqp_url, None, {})
