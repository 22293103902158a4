"""The consumer against a real broker: what arrives, what is acknowledged, and how deep a queue is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pika
import pytest
from pika import BasicProperties

from busmon.bus.consume.depths import Depth

from .consuming import QUORUM, Operator, Recorder, Running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from busmon.bus.frames.delivery import Delivery


class Encoded(BasicProperties):
    """Properties in an encoding that no client library makes."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self._encoded = encoded

    def encode(self) -> list[bytes]:
        return [self._encoded]


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


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
        not_text = BasicProperties(message_id=b"\xff:1", content_type=b"\xfe")  # type: ignore[arg-type]
        operator.publish(running.queue, b"x", properties=not_text)
        (delivery,) = running.until_delivered(1)
        assert (delivery.properties.message_id, delivery.properties.content_type) == ("\\xff:1", "\\xfe")

    def test_the_user_is_the_one_that_the_broker_checked_whatever_the_flags_are(
        self, operator: Operator, vhost: Any
    ) -> None:
        """A classic queue passes properties on as they were published, and a quorum queue encodes them again."""
        # A decoder that takes the flags for the first of two words begins two bytes later, inside of the content type.
        shifted = b"\0" + short(b"text/plain") + short(b"victim")
        flags = BasicProperties.FLAG_CONTENT_TYPE | BasicProperties.FLAG_USER_ID | 1
        stated = Encoded(flags.to_bytes(2) + short(shifted) + short(b"guest"))
        operator.declare("classic", {"x-queue-type": "classic"})
        operator.publish("classic", b"", b"x", b"x" * 200_000, properties=stated)  # not peeled, peeled, not peeled
        with Running(vhost.amqp_url, "classic") as running:
            assert [delivery.user_id for delivery in running.until_delivered(3)] == ["guest"] * 3

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


class TestDepth:
    def test_it_counts_what_is_ready(self, operator: Operator, vhost: Any, queue: str) -> None:
        operator.publish(queue, *[b"x"] * 7)
        operator.until_ready(queue, 7)
        with Running(vhost.amqp_url, queue, prefetch=2) as running:
            running.until_delivered(2)
            assert running.depth() == 5
            answers: list[Depth] = []
            for _ in range(3):
                running.consumer.depth(queue, answers.append)
            running.until(lambda: answers == [Depth(ready=5, consumers=1)] * 3)

    def test_it_counts_who_consumes_but_of_a_single_active_consumer_only_that_one(
        self, operator: Operator, vhost: Any
    ) -> None:
        operator.declare("shared")
        operator.declare("single", QUORUM | {"x-single-active-consumer": True})
        with Running(vhost.amqp_url, "shared", "single") as one, Running(vhost.amqp_url, "shared", "single") as other:
            one.until_consuming("shared", "single")
            other.until_consuming("shared", "single")
            answers: list[Depth] = []
            for queue in ("shared", "single"):
                one.consumer.depth(queue, answers.append)
            one.until(lambda: len(answers) == 2)
            assert [depth.consumers for depth in answers] == [2, 1]

    def test_a_missing_queue_is_unknown_and_disturbs_nobody(self, operator: Operator, running: Running) -> None:
        answers: list[Depth] = []
        running.consumer.depth("missing", answers.append)
        running.consumer.depth(running.queue, answers.append)
        running.until(lambda: len(answers) == 2)
        assert answers == [Depth(), Depth()]
        assert [depth.is_missing for depth in answers] == [True, False]
        for queue in ("missing", running.queue):
            running.consumer.depth(queue, answers.append)
        running.until(lambda: len(answers) == 4)
        assert answers[2:] == [Depth(ready=0, consumers=1), Depth()]
        assert running.depth() == 0
        operator.publish(running.queue, b"x")
        running.until_delivered(1)
        assert not running.heard.losses

    def test_it_is_unknown_without_a_connection(self, vhost: Any) -> None:
        running = Running(vhost.amqp_url, "fold")
        answers: list[Depth] = []
        running.consumer.depth("fold", answers.append)
        assert answers == [Depth()]
        running.close()
        running.ioloop.close()
