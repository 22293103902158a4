"""The consumer against a real broker: it ends in order, and in time."""

from __future__ import annotations

import socket
import time
from typing import Any

from structlog.testing import capture_logs

from .consuming import QUARANTINE, QUORUM, Operator, Running
from .proxy import Proxy


def test_after_a_cancel_nothing_is_delivered_and_what_is_in_hand_can_be_settled(
    operator: Operator, queue: str, vhost: Any
) -> None:
    operator.publish(queue, *[b"x"] * 2000)
    with Running(vhost.amqp_url, queue) as running:
        running.until_delivered(1)
        running.consumer.cancel(lambda: None)
        in_hand = len(running.heard.deliveries[queue])
        running.until(lambda: running.consumer._channels[queue]._cancelled is None)
        assert len(running.heard.deliveries[queue]) == in_hand
        assert running.heard.states[queue][-1] == "draining"
        running.settle_all()
    operator.until_ready(queue, 2000 - in_hand)


def test_a_standby_takes_over_when_the_active_consumer_cancels(operator: Operator, vhost: Any) -> None:
    queue = operator.declare("single", {**QUORUM, "x-single-active-consumer": True})
    with Running(vhost.amqp_url, queue) as active, Running(vhost.amqp_url, queue) as standby:
        active.until_consuming()
        standby.until_consuming()
        operator.publish(queue, b"1")
        active.until_delivered(1)
        active.settle_all()
        active.cancel()
        operator.publish(queue, b"2")
        (delivery,) = standby.until_delivered(1)
        assert delivery.body == b"2"


def test_only_the_active_consumer_is_said_to_consume(operator: Operator, vhost: Any) -> None:
    queue = operator.declare("single", {**QUORUM, "x-single-active-consumer": True})

    def said(lines: list[Any]) -> list[str]:
        return [line["event"] for line in lines if line.get("queue") == queue]

    with Running(vhost.amqp_url, queue) as active, Running(vhost.amqp_url, queue) as standby:
        with capture_logs() as of_active:
            active.until_consuming()
            operator.publish(queue, b"1", b"2")
            active.until_delivered(2)
            active.until(lambda: "consumer.consuming" in said(of_active))
            active.settle_all()
        with capture_logs() as of_standby:
            standby.until_consuming()
            watched_at = standby.consumer._watched_at
            standby.until(lambda: standby.consumer._watched_at > watched_at)
            assert said(of_standby) == ["consumer.registered"]
            active.cancel()
            operator.publish(queue, b"3")
            standby.until_delivered(1)
            standby.until(lambda: "consumer.consuming" in said(of_standby))
        assert said(of_active) == said(of_standby) == ["consumer.registered", "consumer.consuming"]


def test_a_cancel_while_the_channel_opens_lets_nothing_in(operator: Operator, queue: str, vhost: Any) -> None:
    operator.publish(queue, b"x")
    with Running(vhost.amqp_url, queue) as running:
        done: list[bool] = []
        opened = running.consumer._link._opened

        def open_and_cancel(connection: Any) -> None:
            opened(connection)
            running.consumer.cancel(lambda: done.append(True))

        running.consumer._link._opened = open_and_cancel
        running.until(lambda: done)
        running.until(lambda: running.channel().is_closed)
        assert not running.heard.deliveries[queue]
    operator.until_ready(queue, 1)


def test_close_waits_for_the_quarantines_confirms(operator: Operator, running: Running) -> None:
    operator.declare_quarantine()
    operator.publish(running.queue, *[b"bad"] * 50)
    for delivery in running.until_delivered(50):
        running.consumer.quarantine(running.queue, delivery, {}, lambda: None)
    running.cancel()
    running.close()
    operator.until_ready(QUARANTINE, 50)
    operator.until_ready(running.queue, 0)


def test_close_does_not_wait_for_a_quarantine_that_refuses(operator: Operator, running: Running) -> None:
    operator.publish(running.queue, b"bad")
    (delivery,) = running.until_delivered(1)
    running.consumer.quarantine(running.queue, delivery, {}, lambda: None)
    running.until(lambda: running.consumer.reconnects["exchange_missing"] >= 3)
    running.cancel()
    running.close()
    operator.until_ready(running.queue, 1)


def test_cancel_and_close_are_done_at_once_without_a_connection(vhost: Any, node: Any) -> None:
    running = Running(vhost.amqp_url.replace(f":{node.amqp_port}/", ":1/"), "fold")
    running.until(lambda: running.consumer.reconnects["unreachable"])
    done: list[str] = []
    running.consumer.cancel(lambda: done.append("cancel"))
    running.consumer.close(lambda: done.append("close"))
    assert done == ["cancel", "close"]
    running.ioloop.close()


def _is_in_handshake(running: Running) -> bool:
    connector = getattr(running.consumer._link._dialling, "_connector", None)
    return getattr(connector, "_amqp_conn", None) is not None


def test_close_during_the_handshake_ends_it(vhost: Any, node: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with Running(vhost.amqp_url.replace(f":{node.amqp_port}/", f":{port}/"), "fold") as running:
            running.until(lambda: _is_in_handshake(running))


def test_cancel_and_close_never_hang_on_a_broker_that_does_not_answer(node: Any, vhost: Any, queue: str) -> None:
    with (
        Proxy(node.amqp_port) as proxy,
        Running(vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/"), queue) as running,
    ):
        running.until_consuming()
        proxy.silent = True
        started = time.monotonic()
        running.cancel()
        running.close()
        assert time.monotonic() - started < 3
