"""Queues that exist and don't answer: RabbitMQ gives them the code of a missing queue, and other words."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from busmon.bus.connect.session import Session
from busmon.bus.topology import explaining
from busmon.bus.topology.declare import declare, ensure
from busmon.bus.topology.topology import Topology, load
from busmon.demo.broker import PrivateNode
from busmon.errors import BrokerUnreachableError, BrokerUnsettledError
from tests.broker.consuming import Running
from tests.broker.topologies import Place
from tests.conftest import Vhost
from tests.patience import wait_until
from tests.soak.stage import ELECTION_SECONDS

FOLD = "telemetry.fold.1"

# `rabbit_db_queue` is RabbitMQ 4's; before it, the caller opens the transaction.
SET_STATE = """
Name = rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>), Set = fun(Q) -> amqqueue:set_state(Q, {state}) end,
case code:ensure_loaded(rabbit_db_queue) of
    {{module, _}} -> rabbit_db_queue:update(Name, Set);
    _ -> rabbit_misc:execute_mnesia_transaction(fun() -> rabbit_amqqueue:update(Name, Set) end)
end, ok.
"""


@contextmanager
def unavailable(node: PrivateNode, vhost: Vhost, queue: str) -> Iterator[None]:
    """Have the broker take the queue's process for crashed in the block."""

    def set_state(state: str) -> None:
        asked = SET_STATE.format(vhost=vhost.name, queue=queue, state=state)
        assert node.rabbitmqctl("--silent", "eval", asked).strip() == "ok"

    set_state("crashed")
    try:
        yield
    finally:
        set_state("live")


def test_a_queue_that_does_not_answer_is_not_taken_for_missing(node: PrivateNode, vhost: Vhost, queue: str) -> None:
    with Session(vhost.amqp_url, "test") as session:
        with unavailable(node, vhost, queue), pytest.raises(BrokerUnsettledError, match="has crashed and failed"):
            session.has_queue(queue)
        assert (session.has_queue(queue), session.has_queue("nowhere")) == (True, False)


@pytest.mark.parametrize("name", ["telemetry.log.1", "telemetry.fold.2", "telemetry.quarantine"])
def test_a_fleet_that_starts_asks_again_instead_of_declaring(
    node: PrivateNode, vhost: Vhost, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = load(None, "telemetry", "stream")
    declare(wanted, vhost.amqp_url, None, {})
    with ThreadPoolExecutor() as pool:
        with unavailable(node, vhost, name):
            starting = pool.submit(ensure, wanted, vhost.amqp_url)
            wait_until(lambda: "the broker can't declare yet" in caplog.text or starting.done(), "the first refusal")
            assert not starting.done()
        assert starting.result() == []


def test_a_shard_whose_queue_does_not_answer_keeps_the_ring(node: PrivateNode, vhost: Vhost, tmp_path: Path) -> None:
    place = Place.declared(vhost.amqp_url, tmp_path)
    with Running(place.amqp_url, FOLD, topology=place.topology) as running:
        running.until_consuming()
        with unavailable(node, vhost, FOLD):
            running.channel().basic_ack(10**6)  # a tag that the broker never gave, so it closes the channel
            running.until(lambda: running.consumer.reconnects["queue_unavailable"] >= 2)
            assert running.heard.causes[FOLD][-1].startswith("queue_unavailable: NOT_FOUND - queue 'telemetry.fold.1'")
            assert running.depth() is None
        running.until_consuming()
        assert set(running.heard.states[FOLD]) == {"consuming", "closed"}
        with Session(place.amqp_url, "test") as session:
            assert session.has_exchange("telemetry.shards")
    assert running.consumer.reconnects["queue_missing"] == 0


def test_no_restart_of_the_broker_makes_a_fleet_ask_for_a_declaration(
    dedicated_node: PrivateNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = load(None, "telemetry", "stream")
    declare(wanted, dedicated_node.amqp_url, None, {})
    time.sleep(ELECTION_SECONDS)
    monkeypatch.setattr(explaining, "SETTLING_SECONDS", 0.0)
    with ThreadPoolExecutor() as pool:
        for _ in range(2):
            restarting = pool.submit(dedicated_node.restart)
            while not restarting.done():
                with suppress(BrokerUnreachableError):
                    ensure(wanted, dedicated_node.amqp_url)
            restarting.result()
            wait_until(lambda: is_whole(wanted, dedicated_node), "every queue to answer")


def is_whole(wanted: Topology, node: PrivateNode) -> bool:
    """Tell if every object of the topology answers."""
    with suppress(BrokerUnreachableError):
        return ensure(wanted, node.amqp_url) == []
    return False
