"""The consumer against a real broker: what arrives, what is acknowledged, and what each failure is called."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pika
import pytest
from pika import BasicProperties, spec
from pika.frame import Method

from .consuming import QUARANTINE, QUORUM, Operator, Recorder, Running, close_connection
from .proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from busmon.bus.consumer import Delivery

REFUSING = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}


@pytest.fixture
def operator(vhost: Any) -> Iterator[Operator]:
    with Operator(vhost.amqp_url) as operator:
        yield operator


@pytest.fixture
def queue(operator: Operator) -> str:
    return operator.declare("fold")


@pytest.fixture
def running(vhost: Any, queue: str) -> Iterator[Running]:
    with Running(vhost.amqp_url, queue) as running:
        running.until_consuming()
        yield running


class TestDeliveries:
    def test_bodies_of_many_sizes_arrive_whole_and_in_order(self, operator: Operator, running: Running) -> None:
        bodies = [bytes([size % 251]) * size for size in (0, 1, 4095, 4096, 131_064, 131_065, 300_000, 5_000_000)]
        operator.publish(running.queue, *bodies)
        running.until_delivered(len(bodies))
        assert running.heard.bodies(running.queue) == bodies

    def test_properties_and_routing_key_arrive_as_published(self, operator: Operator, running: Running) -> None:
        published = BasicProperties(message_id="a:1", content_type="application/json", headers={"source": "a"})
        operator.publish(running.queue, b"x", properties=published)
        (delivery,) = running.until_delivered(1)
        assert delivery.properties == published
        assert delivery.routing_key == running.queue
        assert not delivery.redelivered

    def test_no_more_than_the_prefetch_is_delivered_unsettled(self, vhost: Any, operator: Operator, queue: str) -> None:
        operator.publish(queue, *[b"x"] * 25)
        with Running(vhost.amqp_url, queue, prefetch=10) as running:
            running.until_delivered(10)
            assert running.depth() == 15
            assert len(running.heard.deliveries[queue]) == 10
            running.settle_all()
            running.until_delivered(20)

    def test_headers_that_pika_cannot_decode_cost_neither_the_body_nor_its_neighbours(
        self, operator: Operator, running: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encode = pika.data.encode_value
        with monkeypatch.context() as patch:
            beyond_year_9999 = b"T" + (2**62).to_bytes(8, "big")

            def encode_raw(pieces: list[bytes], value: Any) -> Any:
                if value is not Ellipsis:
                    return encode(pieces, value)
                pieces.append(beyond_year_9999)
                return len(beyond_year_9999)

            patch.setattr(pika.data, "encode_value", encode_raw)
            foreign = BasicProperties(content_type="text/plain", message_id="id", app_id="app", headers={"at": ...})
            operator.publish(running.queue, b"foreign", properties=foreign)
        operator.publish(running.queue, b"good")
        first, second = running.until_delivered(2)
        assert (first.body, second.body) == (b"foreign", b"good")
        assert first.properties == BasicProperties(content_type="text/plain", message_id="id", app_id="app")
        assert not running.heard.losses

    def test_texts_that_are_not_utf_8_are_escaped(self, operator: Operator, running: Running) -> None:
        operator.publish(running.queue, b"x", properties=BasicProperties(message_id=b"\xff:1", content_type=b"\xfe"))
        (delivery,) = running.until_delivered(1)
        assert (delivery.properties.message_id, delivery.properties.content_type) == ("\\xff:1", "\\xfe")

    def test_what_the_listener_raises_leaves_the_loop(self, operator: Operator, queue: str, vhost: Any) -> None:
        operator.publish(queue, b"x")

        class DiskFullError(Exception):
            pass

        class FullDisk(Recorder):
            def delivered(self, queue: str, deliveries: Sequence[Delivery]) -> None:
                raise DiskFullError(queue, deliveries)

        running = Running(vhost.amqp_url, queue, heard=FullDisk())
        with pytest.raises(DiskFullError):
            running.until(lambda: False)
        running.close()
        running.ioloop.close()


class TestSettling:
    def test_settled_deliveries_never_return(self, operator: Operator, queue: str, vhost: Any) -> None:
        operator.publish(queue, *[b"x"] * 500)
        with Running(vhost.amqp_url, queue, prefetch=100) as running:
            for _ in range(5):
                running.until_delivered(100)
                running.settle_all()
                running.heard.forget()
        operator.until_ready(queue, 0)

    def test_unsettled_deliveries_return_flagged(self, operator: Operator, queue: str, vhost: Any) -> None:
        operator.publish(queue, b"1", b"2", b"3")
        with Running(vhost.amqp_url, queue) as running:
            running.until_delivered(3)
            running.consumer.settle(queue, running.heard.tags(queue)[:2])
        with Running(vhost.amqp_url, queue) as running:
            (delivery,) = running.until_delivered(1)
            assert (delivery.body, delivery.redelivered) == (b"3", True)

    def test_a_tag_of_a_lost_channel_is_never_acknowledged_on_a_newer_one(
        self, operator: Operator, running: Running
    ) -> None:
        operator.publish(running.queue, b"1", b"2")
        running.until_delivered(2)
        stale = running.heard.tags(running.queue)
        running.break_channel()
        redelivered = running.until_delivered(2)
        running.consumer.settle(running.queue, stale)
        running.close()
        operator.until_ready(running.queue, 2)
        assert all(delivery.redelivered for delivery in redelivered)

    def test_settling_after_close_does_nothing(self, operator: Operator, running: Running) -> None:
        operator.publish(running.queue, b"1")
        running.until_delivered(1)
        running.close()
        running.settle_all()
        operator.until_ready(running.queue, 1)


class TestLosses:
    def test_a_closed_channel_is_reopened_and_costs_its_neighbours_nothing(
        self, operator: Operator, vhost: Any
    ) -> None:
        queues = operator.declare("broken"), operator.declare("sound")
        with Running(vhost.amqp_url, *queues) as running:
            running.until_consuming(*queues)
            operator.publish("sound", b"x")
            running.until_delivered(1, "sound")
            running.break_channel("broken")
            assert [queue for queue, _ in running.heard.losses] == ["broken"]
            assert running.heard.states["broken"] == ["consuming", "closed", "consuming"]
            assert "unknown delivery tag" in running.heard.causes["broken"][1]
            assert running.consumer.reconnects == {"channel_closed": 1}
            running.settle_all("sound")
        operator.until_ready("sound", 0)

    def test_a_connection_closed_by_the_operator_is_opened_again(
        self, node: Any, vhost: Any, operator: Operator, queue: str
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

    def test_a_deleted_queue_is_named_and_consumed_again_once_it_exists(
        self, operator: Operator, running: Running
    ) -> None:
        queue = running.queue
        operator.publish(queue, b"1")
        running.until_delivered(1)
        operator.channel.queue_delete(queue)
        running.until(lambda: running.heard.states[queue][-1] == "missing")
        assert running.heard.states[queue] == ["consuming", "cancelled", "missing"]
        assert [lost for lost, _ in running.heard.losses] == [queue, queue]
        operator.declare(queue)
        operator.publish(queue, b"2")
        (delivery,) = running.until_delivered(1)
        assert delivery.body == b"2"
        assert running.heard.states[queue][-1] == "consuming"
        assert running.consumer.reconnects["consumer_cancelled"] == 1
        assert running.consumer.reconnects["queue_missing"] >= 1

    def test_what_is_settled_when_the_consumer_is_cancelled_goes_out_on_the_open_channel(
        self, operator: Operator, running: Running
    ) -> None:
        queue, acks = running.queue, []
        operator.publish(queue, b"1")
        running.until_delivered(1)
        running.channel().basic_ack = lambda *ack: acks.append(ack)
        running.heard.at_change = lambda _queue, state: running.settle_all() if state == "cancelled" else None
        operator.channel.queue_delete(queue)
        running.until(lambda: running.heard.losses)
        assert acks == [(1, True)]

    def test_a_queue_without_a_leader_is_named_and_consumed_once_it_has_one(
        self, node: Any, vhost: Any, queue: str
    ) -> None:
        leader = f'list_to_existing_atom("{vhost.name}_{queue}")'
        node.rabbitmqctl("eval", f"sys:suspend({leader}).")
        with Running(vhost.amqp_url, queue) as running:
            running.until(lambda: running.heard.causes[queue])
            assert running.heard.states[queue] == ["connecting"]
            assert running.heard.causes[queue][0].startswith("unanswered: ")
            assert running.consumer.reconnects == {"unanswered": 1}
            node.rabbitmqctl("eval", f"sys:resume({leader}).")
            running.until_consuming()

    def test_a_queue_missing_at_the_start_is_waited_for(self, operator: Operator, vhost: Any) -> None:
        with Running(vhost.amqp_url, "late") as running:
            running.until(lambda: running.heard.states["late"] == ["missing"])
            assert "no queue 'late'" in running.heard.causes["late"][0]
            operator.declare("late")
            running.until_consuming("late")

    def test_a_queue_that_may_not_be_read_is_waited_for(self, node: Any, vhost: Any, queue: str) -> None:
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

    def test_a_wrong_password_is_named_and_never_shown(self, vhost: Any, queue: str) -> None:
        with Running(vhost.amqp_url.replace("guest:guest", "guest:hunter2"), queue) as running:
            running.until(lambda: running.heard.states[queue] == ["connecting"])
            assert running.heard.causes[queue][0].startswith("refused: ACCESS_REFUSED")
            assert "hunter2" not in running.heard.causes[queue][0]
            assert not running.heard.losses

    def test_a_broker_that_is_not_there_is_waited_for(self, vhost: Any, node: Any, queue: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with Running(vhost.amqp_url.replace(f":{node.amqp_port}/", f":{port}/"), queue) as running:
            running.until(lambda: running.consumer.reconnects["unreachable"] >= 3)
            assert running.heard.states[queue] == ["connecting"]
            assert not running.heard.losses

    def test_a_silent_network_is_noticed_by_its_heartbeats(self, node: Any, vhost: Any, queue: str) -> None:
        with Proxy(node.amqp_port) as proxy:
            url = vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/")
            with Running(f"{url}?heartbeat=1", queue) as running:
                running.until_consuming()
                proxy.silent = True
                running.until(lambda: running.heard.losses)
                assert running.consumer.reconnects == {"heartbeat_timeout": 1}
                proxy.silent = False
                running.until_consuming()

    def test_a_blocked_connection_is_named_until_it_is_unblocked(self, running: Running) -> None:
        # RabbitMQ tells it only to connections that publish; so it is played in.
        connection = running.channel().connection
        connection._process_frame(Method(0, spec.Connection.Blocked("low on disk")))
        assert running.heard.states[running.queue][-1] == "blocked"
        assert running.heard.causes[running.queue][-1] == "connection_blocked: low on disk"
        connection._process_frame(Method(0, spec.Connection.Unblocked()))
        assert running.heard.states[running.queue][-1] == "consuming"
        assert running.consumer.reconnects == {"connection_blocked": 1}

    def test_a_killed_broker_loses_nothing(self, dedicated_node: Any) -> None:
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

    def test_a_consumer_that_settles_too_late_is_named(self, dedicated_node: Any) -> None:
        dedicated_node.rabbitmqctl(
            "eval", "[application:set_env(rabbit, Key, 500) || Key <- [consumer_timeout, channel_tick_interval]]."
        )
        with Operator(dedicated_node.amqp_url) as operator:
            operator.publish(operator.declare("fold"), b"x")
        with Running(dedicated_node.amqp_url, "fold") as running:
            running.until(lambda: running.heard.losses)
            assert set(running.consumer.reconnects) == {"consumer_timeout"}
            running.until_delivered(1)


class TestQuarantine:
    HEADERS = {"reason": "invalid_json", "agent": "analyzer"}  # noqa: RUF012 - never written to

    def quarantine(self, running: Running, *positions: int) -> None:
        for position in positions:
            delivery = running.heard.deliveries[running.queue][position]
            running.consumer.quarantine(running.queue, delivery, self.HEADERS)

    def held(self, running: Running) -> int:
        return running.consumer.held(running.queue)

    def test_a_body_lands_with_its_own_properties_and_the_reason(self, operator: Operator, running: Running) -> None:
        operator.declare_quarantine()
        published = BasicProperties(message_id="a:1", content_type="text/plain", headers={"source": "a", "n": 1})
        operator.publish(running.queue, b"bad", properties=published)
        running.until_delivered(1)
        self.quarantine(running, 0)
        assert self.held(running) == 1
        running.until(lambda: not self.held(running))
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
        running.consumer.quarantine(running.queue, stale, self.HEADERS)
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
        running.consumer._quarantine.forget(running.queue)
        running.until(lambda: running.consumer.reconnects["quarantine_refused"] == 1)
        operator.channel.queue_purge(QUARANTINE)
        self.quarantine(running, 2)
        running.until(lambda: self.held(running) == 1)
        assert operator.take(QUARANTINE)[0] == b"last"

    def test_what_a_lost_connection_left_unconfirmed_is_published_on_the_next(
        self, operator: Operator, running: Running
    ) -> None:
        operator.declare_quarantine()
        operator.publish(running.queue, b"first", b"second")
        running.until_delivered(2)
        self.quarantine(running, 0)
        running.until(lambda: not self.held(running))
        self.quarantine(running, 1)
        running.consumer._quarantine._link._drop()
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
        close_connection(node, vhost.name, "test consumer quarantine")
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


class TestDraining:
    def test_after_a_cancel_nothing_is_delivered_and_what_is_in_hand_can_be_settled(
        self, operator: Operator, queue: str, vhost: Any
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

    def test_a_standby_takes_over_when_the_active_consumer_cancels(self, operator: Operator, vhost: Any) -> None:
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

    def test_a_cancel_while_the_channel_opens_lets_nothing_in(self, operator: Operator, queue: str, vhost: Any) -> None:
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

    def test_close_waits_for_the_quarantines_confirms(self, operator: Operator, running: Running) -> None:
        operator.declare_quarantine()
        operator.publish(running.queue, *[b"bad"] * 50)
        for delivery in running.until_delivered(50):
            running.consumer.quarantine(running.queue, delivery, {})
        running.cancel()
        running.close()
        operator.until_ready(QUARANTINE, 50)
        operator.until_ready(running.queue, 0)

    def test_close_does_not_wait_for_a_quarantine_that_refuses(self, operator: Operator, running: Running) -> None:
        operator.publish(running.queue, b"bad")
        (delivery,) = running.until_delivered(1)
        running.consumer.quarantine(running.queue, delivery, {})
        running.until(lambda: running.consumer.reconnects["exchange_missing"] >= 3)
        running.cancel()
        running.close()
        operator.until_ready(running.queue, 1)

    def test_cancel_and_close_are_done_at_once_without_a_connection(self, vhost: Any, node: Any) -> None:
        running = Running(vhost.amqp_url.replace(f":{node.amqp_port}/", ":1/"), "fold")
        running.until(lambda: running.consumer.reconnects["unreachable"])
        done: list[str] = []
        running.consumer.cancel(lambda: done.append("cancel"))
        running.consumer.close(lambda: done.append("close"))
        assert done == ["cancel", "close"]
        running.ioloop.close()

    def test_close_during_the_handshake_ends_it(self, vhost: Any, node: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
            with Running(vhost.amqp_url.replace(f":{node.amqp_port}/", f":{port}/"), "fold") as running:
                running.until(lambda: getattr(running.consumer._link._current, "_transport", None))

    def test_cancel_and_close_never_hang_on_a_broker_that_does_not_answer(
        self, node: Any, vhost: Any, queue: str
    ) -> None:
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


class TestDepth:
    def test_it_counts_what_is_ready(self, operator: Operator, vhost: Any, queue: str) -> None:
        operator.publish(queue, *[b"x"] * 7)
        operator.until_ready(queue, 7)
        with Running(vhost.amqp_url, queue, prefetch=2) as running:
            running.until_delivered(2)
            assert running.depth() == 5
            answers: list[int | None] = []
            for _ in range(3):
                running.consumer.depth(queue, answers.append)
            running.until(lambda: answers == [5, 5, 5])

    def test_a_missing_queue_is_unknown_and_disturbs_nobody(self, operator: Operator, running: Running) -> None:
        answers: list[int | None] = []
        running.consumer.depth("missing", answers.append)
        running.consumer.depth(running.queue, answers.append)
        running.until(lambda: len(answers) == 2)
        assert answers == [None, None]
        assert running.depth() == 0
        operator.publish(running.queue, b"x")
        running.until_delivered(1)
        assert not running.heard.losses

    def test_it_is_unknown_without_a_connection(self, vhost: Any) -> None:
        running = Running(vhost.amqp_url, "fold")
        answers: list[int | None] = []
        running.consumer.depth("fold", answers.append)
        assert answers == [None]
        running.close()
        running.ioloop.close()
