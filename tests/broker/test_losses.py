"""The consumer against a real broker: what each failure is called, and that what can be opened again is."""

from __future__ import annotations

import time
from typing import Any

from pika import spec
from pika.frame import Method

from busmon.bus.connect.session import Session
from busmon.bus.topology.version import parse
from busmon.demo.rabbitmq import free_ports

from .consuming import Operator, Running, close_connection
from .proxy import Proxy


def test_a_closed_channel_is_reopened_and_costs_its_neighbours_nothing(operator: Operator, vhost: Any) -> None:
    queues = operator.declare("broken"), operator.declare("sound")
    with Running(vhost.amqp_url, *queues) as running:
        running.until_consuming(*queues)
        operator.publish("sound", b"x")
        running.until_delivered(1, "sound")
        running.break_channel("broken")
        assert running.heard.losses == ["broken"]
        assert running.heard.states["broken"] == ["consuming", "closed", "consuming"]
        assert "unknown delivery tag" in running.heard.causes["broken"][1]
        assert running.consumer.reconnects == {"channel_closed": 1}
        running.settle_all("sound")
    operator.until_ready("sound", 0)


def test_a_connection_closed_by_the_operator_is_opened_again(
    node: Any, vhost: Any, operator: Operator, queue: str
) -> None:
    operator.publish(queue, b"1")
    with Running(vhost.amqp_url, queue) as running:
        running.until_delivered(1)
        close_connection(node, vhost.name, "test consumer")
        running.until(lambda: running.heard.losses)
        (delivery,) = running.until_delivered(1)
        assert delivery.redelivered
        assert running.heard.states[queue] == ["consuming", "connecting", "consuming"]
        assert running.heard.causes[queue][1].startswith("connection_closed: CONNECTION_FORCED")
        assert running.consumer.reconnects == {"connection_closed": 1}


def test_a_deleted_queue_is_named_and_consumed_again_once_it_exists(operator: Operator, running: Running) -> None:
    queue = running.queue
    operator.publish(queue, b"1")
    running.until_delivered(1)
    operator.channel.queue_delete(queue)
    running.until(lambda: running.heard.states[queue][-1] == "missing")
    assert running.heard.states[queue] == ["consuming", "cancelled", "missing"]
    assert running.heard.losses == [queue, queue]
    operator.declare(queue)
    operator.publish(queue, b"2")
    (delivery,) = running.until_delivered(1)
    assert delivery.body == b"2"
    assert running.heard.states[queue][-1] == "consuming"
    assert running.consumer.reconnects["consumer_cancelled"] == 1
    assert running.consumer.reconnects["queue_missing"] >= 1


def test_what_is_settled_when_the_consumer_is_cancelled_goes_out_on_the_open_channel(
    operator: Operator, running: Running
) -> None:
    queue, acks = running.queue, []
    operator.publish(queue, b"1")
    running.until_delivered(1)
    running.channel().basic_ack = lambda *ack: acks.append(ack)  # type: ignore[method-assign]
    running.heard.at_change = lambda _queue, state: running.settle_all() if state == "cancelled" else None
    operator.channel.queue_delete(queue)
    running.until(lambda: running.heard.losses)
    assert acks == [(1, True)]


def test_a_queue_without_a_leader_is_named_and_consumed_once_it_has_one(node: Any, vhost: Any, queue: str) -> None:
    leader = f'list_to_existing_atom("{vhost.name}_{queue}")'
    node.rabbitmqctl("eval", f"sys:suspend({leader}).")
    with Running(vhost.amqp_url, queue) as running:
        running.until(lambda: running.heard.causes[queue])
        assert running.heard.states[queue] == ["connecting"]
        assert running.heard.causes[queue][0].startswith("unanswered: ")
        assert running.consumer.reconnects == {"unanswered": 1}
        node.rabbitmqctl("eval", f"sys:resume({leader}).")
        running.until_consuming()


def test_a_queue_missing_at_the_start_is_waited_for(operator: Operator, vhost: Any) -> None:
    with Running(vhost.amqp_url, "late") as running:
        running.until(lambda: running.heard.states["late"] == ["missing"])
        assert "no queue 'late'" in running.heard.causes["late"][0]
        operator.declare("late")
        running.until_consuming("late")


def test_a_queue_that_may_not_be_read_is_waited_for(node: Any, vhost: Any, queue: str) -> None:
    user, permissions = f"reader-{vhost.name}", {"configure": "", "write": "", "read": ""}
    node.management("PUT", f"/api/users/{user}", {"password": "secret", "tags": ""})
    node.management("PUT", f"/api/permissions/{vhost.name}/{user}", permissions)
    try:
        with Running(vhost.amqp_url.replace("guest:guest", f"{user}:secret"), queue) as running:
            running.until(lambda: running.heard.states[queue] == ["closed"])
            assert running.heard.causes[queue][0].startswith("access_refused: ACCESS_REFUSED")
            node.management("PUT", f"/api/permissions/{vhost.name}/{user}", {**permissions, "read": ".*"})
            running.until_consuming()
            assert set(running.consumer.reconnects) == {"access_refused"}
    finally:
        node.management("DELETE", f"/api/users/{user}")


def test_a_wrong_password_is_named_and_never_shown(vhost: Any, queue: str) -> None:
    with Running(vhost.amqp_url.replace("guest:guest", "guest:hunter2"), queue) as running:
        running.until(lambda: running.heard.states[queue] == ["connecting"])
        assert running.heard.causes[queue][0].startswith("refused: ACCESS_REFUSED")
        assert "hunter2" not in running.heard.causes[queue][0]
        assert not running.heard.losses


def test_a_broker_that_is_not_there_is_waited_for(vhost: Any, node: Any, queue: str) -> None:
    (port,) = free_ports(1)
    with Running(vhost.amqp_url.replace(f":{node.amqp_port}/", f":{port}/"), queue) as running:
        running.until(lambda: running.consumer.reconnects["unreachable"] >= 3)
        assert running.heard.states[queue] == ["connecting"]
        assert not running.heard.losses


def test_the_silence_of_a_blocked_connection_is_noticed_by_its_heartbeats(node: Any, vhost: Any, queue: str) -> None:
    # Without the block, an unanswered request (`channel_silent`) may end the connection before the heartbeats do.
    with Proxy(node.amqp_port) as proxy:
        url = vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/")
        with Running(f"{url}?heartbeat=1", queue) as running:
            running.until_consuming()
            block(running)
            proxy.silent = True
            running.until(lambda: running.heard.losses)
            assert running.consumer.reconnects == {"connection_blocked": 1, "heartbeat_timeout": 1}
            proxy.silent = False
            running.until_consuming()


def block(running: Running) -> None:
    """Play in the broker's notice, which RabbitMQ sends only to connections that publish."""
    running.channel().connection._process_frame(Method(0, spec.Connection.Blocked("low on disk")))


def test_a_blocked_connection_is_named_until_it_is_unblocked(running: Running) -> None:
    block(running)
    assert running.heard.states[running.queue][-1] == "blocked"
    assert running.heard.causes[running.queue][-1] == "connection_blocked: low on disk"
    running.channel().connection._process_frame(Method(0, spec.Connection.Unblocked()))
    assert running.heard.states[running.queue][-1] == "consuming"
    assert running.consumer.reconnects == {"connection_blocked": 1}


def test_a_killed_broker_loses_nothing(dedicated_node: Any) -> None:
    with Operator(dedicated_node.amqp_url) as operator:
        queue = operator.declare("fold")
        operator.channel.confirm_delivery()
        operator.publish(queue, *[b"%d" % number for number in range(200)])
    with Running(dedicated_node.amqp_url, queue) as running:
        running.until_delivered(200)
        running.consumer.settle(queue, running.heard.tags(queue)[:100])
        # RabbitMQ 3.10 forgets a quorum queue when it is killed within a second of the queue's declaration.
        declared = time.monotonic()
        running.until(lambda: time.monotonic() - declared > 2)
        dedicated_node.restart()
        running.until(lambda: running.heard.losses)
        running.until(lambda: set(range(100, 200)) <= set(map(int, running.heard.bodies(queue))), seconds=60)
        assert all(delivery.redelivered for delivery in running.heard.deliveries[queue])
        assert running.consumer.reconnects["connection_lost"] == 1


def test_a_consumer_that_settles_too_late_is_named(dedicated_node: Any) -> None:
    dedicated_node.rabbitmqctl(
        "eval", "[application:set_env(rabbit, Key, 500) || Key <- [consumer_timeout, channel_tick_interval]]."
    )
    with Operator(dedicated_node.amqp_url) as operator:
        operator.publish(operator.declare("fold"), b"x")
    with Running(dedicated_node.amqp_url, "fold") as running:
        running.until(lambda: running.heard.losses)
        with Session(dedicated_node.amqp_url, "test") as session:
            is_cancelled = parse(session.broker_version) >= (4, 3)
        assert set(running.consumer.reconnects) == {"consumer_cancelled" if is_cancelled else "consumer_timeout"}
        (delivery, *_) = running.until_delivered(1)
        assert delivery.redelivered
        assert running.heard.states["fold"][:3] == ["consuming", "cancelled" if is_cancelled else "closed", "consuming"]
