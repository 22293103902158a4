"""The consumer against a real broker: what goes to quarantine is held until it is stored there."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from pika import BasicProperties

from .consuming import QUARANTINE, QUORUM, Operator, Running, close_connection
from .proxy import Nacks, Proxy

REFUSING = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}


class TestQuarantine:
    HEADERS = {"reason": "invalid_json", "agent": "analyzer"}  # noqa: RUF012 - never written to

    @pytest.fixture(autouse=True)
    def _note_stored(self) -> None:
        self.stored: list[int] = []

    def quarantine(self, running: Running, *positions: int) -> None:
        for position in positions:
            delivery = running.heard.deliveries[running.queue][position]
            running.consumer.quarantine(running.queue, delivery, self.HEADERS, partial(self.stored.append, position))

    def is_stored(self, running: Running) -> bool:
        return not self.held(running)

    def held(self, running: Running) -> int:
        return running.consumer.count_held(running.queue)

    def test_a_body_lands_with_its_own_properties_and_the_reason(self, operator: Operator, running: Running) -> None:
        operator.declare_quarantine()
        published = BasicProperties(message_id="a:1", content_type="text/plain", headers={"source": "a", "n": 1})
        operator.publish(running.queue, b"bad", properties=published)
        running.until_delivered(1)
        self.quarantine(running, 0)
        assert (self.held(running), self.stored) == (1, [])
        running.until(lambda: not self.held(running))
        assert self.stored == [0]
        body, properties = operator.take(QUARANTINE)
        assert (body, properties.message_id, properties.content_type) == (b"bad", "a:1", "text/plain")
        assert properties.headers.items() >= {"source": "a", "n": 1, **self.HEADERS}.items()
        running.close()
        operator.until_ready(running.queue, 0)

    def test_many_at_once_land_once_each_while_their_neighbours_are_settled(
        self, operator: Operator, running: Running
    ) -> None:
        operator.declare_quarantine()
        operator.publish(running.queue, *[b"%d" % number for number in range(300)])
        running.until_delivered(300)
        self.quarantine(running, *range(0, 300, 3))
        running.settle_all()
        running.until(lambda: not self.held(running))
        running.close()
        operator.until_ready(running.queue, 0)
        assert {operator.take(QUARANTINE)[0] for _ in range(100)} == {b"%d" % number for number in range(0, 300, 3)}
        operator.until_ready(QUARANTINE, 0)

    def test_a_body_in_quarantine_is_signed_by_the_consumer_and_by_nobody_where_the_broker_knows_another_name(
        self, operator: Operator, vhost: Any, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operator.declare_quarantine()
        forged = BasicProperties(user_id="guest", headers={"quarantined_at": "1.5", "original_user_id": "victim"})
        for known_as, signed_by in (("guest", "guest"), ("another", None)):
            monkeypatch.setattr("busmon.bus.consume.consumer.user_id", {vhost.amqp_url: known_as}.get)
            operator.publish(queue, b"bad", properties=forged)
            with Running(vhost.amqp_url, queue) as running:
                running.until_delivered(1)
                self.quarantine(running, 0)
                running.until(partial(self.is_stored, running))
                running.close()
            properties = operator.take(QUARANTINE)[1]
            properties.headers.pop("x-delivery-count", None)  # an old broker's
            assert (properties.user_id, properties.headers) == (signed_by, self.HEADERS)

    def test_many_at_once_leave_the_loop_its_turns(
        self, operator: Operator, running: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("busmon.bus.republish.outlet._SLICE_SECONDS", 0.0)
        operator.declare_quarantine()
        operator.publish(running.queue, *[b"%d" % number for number in range(101)])
        running.until_delivered(101)
        self.quarantine(running, 0)
        running.until(lambda: not self.held(running))  # from here on the channel accepts all bodies at once
        self.quarantine(running, *range(1, 101))
        published = [1]

        def note() -> None:
            published.append(running.consumer._quarantine._published)
            if published[-1] < 101:
                running.ioloop.call_later(0, note)

        note()
        running.until(lambda: not self.held(running))
        assert published[-1] == 101
        assert max(after - before for before, after in pairwise(published)) <= 2
        operator.until_ready(QUARANTINE, 101)

    @pytest.mark.parametrize("obstacle", ["no exchange", "no binding", "full"])
    def test_a_refused_body_is_held_and_lands_once_the_obstacle_is_gone(
        self, operator: Operator, running: Running, obstacle: str
    ) -> None:
        if obstacle != "no exchange":
            operator.declare_quarantine(REFUSING if obstacle == "full" else QUORUM)
        if obstacle == "no binding":
            operator.channel.queue_unbind(QUARANTINE, QUARANTINE)
        if obstacle == "full":
            operator.publish(QUARANTINE, b"before")
            operator.until_ready(QUARANTINE, 1)
        operator.publish(running.queue, b"1", b"bad", b"2")
        running.until_delivered(3)
        self.quarantine(running, 1)
        running.settle_all()
        cause = "exchange_missing" if obstacle == "no exchange" else "quarantine_refused"
        running.until(lambda: running.consumer.reconnects[cause] >= 2)
        assert self.held(running) == 1
        if obstacle == "full":
            operator.channel.queue_purge(QUARANTINE)
        else:
            operator.declare_quarantine()
        running.until(lambda: not self.held(running))
        assert operator.take(QUARANTINE)[0] == b"bad"
        assert not running.heard.losses
        running.close()
        operator.until_ready(running.queue, 0)

    def test_a_channel_that_goes_on_refusing_is_replaced(
        self, operator: Operator, node: Any, vhost: Any, queue: str
    ) -> None:
        operator.declare_quarantine()
        operator.publish(queue, b"bad", b"worse")
        with Proxy(node.amqp_port) as proxy:
            proxy.alters = nacks = Nacks()
            with Running(vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/"), queue) as running:
                running.until_delivered(2)
                consuming = nacks.opened
                self.quarantine(running, 0, 1)
                running.until(lambda: nacks.opened == consuming + 2)
                assert self.held(running) == 2
                nacks.bad = False
                running.until(lambda: not self.held(running))
                assert proxy.connections == 2
                assert not running.heard.losses
                running.close()
        operator.until_ready(queue, 0)

    def test_a_quarantine_that_refuses_does_not_stop_the_flow(self, operator: Operator, vhost: Any, queue: str) -> None:
        operator.publish(queue, *[b"x"] * 100)
        with Running(vhost.amqp_url, queue, prefetch=10) as running:
            running.until_delivered(1)
            self.quarantine(running, 0)
            for count in range(10, 101, 9):
                running.until_delivered(count)
                running.settle_all()
            assert self.held(running) == 1
        operator.until_ready(queue, 1)

    def test_a_held_delivery_whose_channel_is_lost_is_forgotten_and_comes_again(
        self, operator: Operator, running: Running
    ) -> None:
        operator.publish(running.queue, b"bad")
        running.until_delivered(1)
        self.quarantine(running, 0)
        running.until(lambda: running.consumer.reconnects["exchange_missing"])
        running.break_channel()
        assert self.held(running) == 0
        running.until_delivered(1)
        operator.declare_quarantine()
        self.quarantine(running, 0)
        running.until(lambda: not self.held(running))
        operator.until_ready(QUARANTINE, 1)

    def test_a_stale_delivery_is_not_quarantined(self, operator: Operator, running: Running) -> None:
        operator.declare_quarantine()
        operator.publish(running.queue, b"bad")
        (stale,) = running.until_delivered(1)
        running.break_channel()
        running.consumer.quarantine(running.queue, stale, self.HEADERS, lambda: None)
        assert self.held(running) == 0

    def test_a_body_forgotten_while_its_confirm_is_awaited_is_not_published_again(
        self, operator: Operator, running: Running
    ) -> None:
        operator.declare_quarantine(REFUSING)
        operator.publish(running.queue, b"fills it", b"forgotten", b"last")
        running.until_delivered(3)
        self.quarantine(running, 0)
        running.until(lambda: not self.held(running))
        self.quarantine(running, 1)
        running.consumer._quarantine._go_on()  # it is sent before the loop reads anything
        running.consumer._outgoing.forget(running.queue)
        running.until(lambda: running.consumer.reconnects["quarantine_refused"] == 1)
        operator.channel.queue_purge(QUARANTINE)
        self.quarantine(running, 2)
        running.until(lambda: self.held(running) == 1)
        assert operator.take(QUARANTINE)[0] == b"last"
        assert self.stored == [0, 2]

    def test_what_a_lost_connection_left_unconfirmed_is_published_on_the_next(
        self, operator: Operator, running: Running
    ) -> None:
        operator.declare_quarantine()
        operator.publish(running.queue, b"first", b"second")
        running.until_delivered(2)
        self.quarantine(running, 0)
        running.until(lambda: not self.held(running))
        self.quarantine(running, 1)
        running.consumer._outgoing._link._drop()
        running.until(lambda: not self.held(running))
        assert running.consumer.reconnects == {"connection_lost": 1}
        assert [operator.take(QUARANTINE)[0] for _ in range(2)] == [b"first", b"second"]

    def test_a_connection_closed_while_the_quarantine_refuses_loses_nothing(
        self, node: Any, vhost: Any, operator: Operator, running: Running
    ) -> None:
        operator.declare_quarantine(REFUSING)
        operator.publish(QUARANTINE, b"before")
        operator.until_ready(QUARANTINE, 1)
        operator.publish(running.queue, b"bad")
        running.until_delivered(1)
        self.quarantine(running, 0)
        running.until(lambda: running.consumer.reconnects["quarantine_refused"])
        close_connection(node, vhost.name, "test consumer publishing")
        running.until(lambda: running.consumer.reconnects["connection_closed"])
        operator.channel.queue_purge(QUARANTINE)
        running.until(lambda: not self.held(running))
        assert operator.take(QUARANTINE)[0] == b"bad"
        assert not running.heard.losses

    def test_a_memory_alarm_stops_no_ack_and_loses_nothing(self, dedicated_node: Any) -> None:
        with Operator(dedicated_node.amqp_url) as operator:
            operator.declare_quarantine()
            operator.publish(operator.declare("fold"), b"first bad", *[b"%d" % number for number in range(50)], b"bad")
        with Running(dedicated_node.amqp_url, "fold") as running:
            running.until_delivered(52)
            self.quarantine(running, 0)
            running.until(lambda: not self.held(running))
            dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
            self.quarantine(running, 51)
            running.settle_all()
            running.until(lambda: running.heard.states["fold"][-1] == "blocked")
            running.until(lambda: unacknowledged(dedicated_node) == 1)
            assert self.held(running) == 1
            # A confirm that comes late must not settle the same tag's successor.
            running.break_channel()
            running.until_delivered(1)
            dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
            with Operator(dedicated_node.amqp_url) as operator:
                running.until(lambda: operator.ready(QUARANTINE) == 2)
                assert unacknowledged(dedicated_node) == 1
                assert running.heard.states["fold"][-1] == "consuming"


def unacknowledged(node: Any) -> int:
    rows = node.rabbitmqctl("--silent", "list_queues", "name", "messages_unacknowledged").splitlines()
    return int(dict(row.split("\t") for row in rows)["fold"])
