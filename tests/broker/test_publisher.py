"""The confirmed publisher against a real broker: what `publish` promises when it returns, and when it raises."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from pika import BasicProperties

from busmon.bus.publish.publisher import WINDOW, ConfirmedPublisher
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, PublishRefusedError

from .proxy import Nacks, Proxy
from .topologies import ONE_SHARD, TINY, Client, Place, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Connect = Callable[..., ConfirmedPublisher]

NAME = "test publisher"
PERSISTENT = BasicProperties(message_id="a:1", delivery_mode=2, headers={"source": "a"})


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Publishers that are closed at the end, of a test that fails, too."""
    with ExitStack() as opened:
        yield lambda url, **options: opened.enter_context(closing(ConfirmedPublisher(url, NAME, **options)))


@pytest.fixture
def publisher(place: Place, connect: Connect) -> ConfirmedPublisher:
    return connect(place.amqp_url)


def publish(publisher: ConfirmedPublisher, body: bytes = b"{}") -> None:
    publisher.publish("telemetry", "a.task", body, PERSISTENT)


def test_on_return_the_body_is_in_its_queue(place: Place, publisher: ConfirmedPublisher) -> None:
    publish(publisher, b"body")
    with Client(place.amqp_url) as client:
        assert client.take("telemetry.fold.0") == [Taken("a.task", PERSISTENT, b"body")]


def test_a_body_that_no_queue_takes_is_refused(vhost: Any, publisher: ConfirmedPublisher) -> None:
    with Client(vhost.amqp_url) as client:
        client.channel.queue_unbind("telemetry.fold.0", "telemetry", "#")
    with pytest.raises(PublishRefusedError, match=r"^returned: exchange 'telemetry' has no queue for .*'a\.task'$"):
        publish(publisher)


def test_a_full_queue_refuses_and_drops_nothing(vhost: Any, tmp_path: Path, connect: Connect) -> None:
    Place.declared(vhost.amqp_url, tmp_path, ONE_SHARD, TINY)
    publisher = connect(vhost.amqp_url)
    stored: list[bytes] = []

    def fill() -> None:
        for number in range(100):
            publish(publisher, b"%d" % number)
            stored.append(b"%d" % number)

    with pytest.raises(PublishRefusedError, match=r"^nacked: a queue of exchange 'telemetry' is full or has failed$"):
        fill()
    publisher.close()
    with Client(vhost.amqp_url) as client:
        client.until_ready("telemetry.fold.0", len(stored))
        assert [taken.body for taken in client.take("telemetry.fold.0", len(stored))] == stored


def test_a_channel_that_goes_on_refusing_is_replaced(place: Place, node: Any, connect: Connect) -> None:
    with Proxy(node.amqp_port) as proxy:
        proxy.alters = nacks = Nacks()
        publisher = connect(place.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/"))
        for opened in (1, 1):
            with pytest.raises(PublishRefusedError, match=r"^nacked: "):
                publish(publisher)
            assert nacks.opened == opened
        nacks.bad = False
        publish(publisher)
        publish(publisher)
        assert (nacks.opened, proxy.connections) == (2, 1)
        publisher.close()


def test_a_channel_that_refuses_one_of_many_is_replaced_too(place: Place, node: Any, connect: Connect) -> None:
    with Proxy(node.amqp_port) as proxy:
        proxy.alters = nacks = Nacks()
        publisher = connect(place.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/"))
        stored: list[int] = []
        nacks.may_answer.clear()  # a refusal that is known earlier ends the sending
        for number in range(WINDOW):
            publisher.send("telemetry", "a.task", b"{}", PERSISTENT, partial(stored.append, number))
        nacks.may_answer.set()
        with pytest.raises(PublishRefusedError, match=r"^nacked: "):
            publisher.settle()
        nacks.bad = False
        publish(publisher)
        assert (stored, nacks.opened) == ([], 2)
        publisher.close()


def test_after_a_refusal_the_next_publish_goes_through(publisher: ConfirmedPublisher) -> None:
    with pytest.raises(BrokerRefusedError, match=r"^NOT_FOUND - no exchange 'nowhere' in vhost"):
        publisher.publish("nowhere", "a.task", b"{}", PERSISTENT)
    publish(publisher)


def test_a_lost_connection_is_opened_again(vhost: Any, node: Any, publisher: ConfirmedPublisher) -> None:
    publish(publisher)
    node.rabbitmqctl("close_all_connections", "--vhost", vhost.name, "a test")
    with pytest.raises(BrokerUnreachableError, match=r"CONNECTION_FORCED - a test"):
        publisher.idle(10)
    publish(publisher)


def test_a_broker_that_falls_silent_is_given_up_in_time(node: Any, place: Place, connect: Connect) -> None:
    with Proxy(node.amqp_port) as proxy:
        url = place.amqp_url.replace(str(node.amqp_port), str(proxy.port))
        publisher = connect(url, timeout_seconds=0.5)
        publish(publisher)
        proxy.silent = True
        started = time.monotonic()
        with pytest.raises(BrokerUnreachableError, match=r"^no answer within 0\.5 s"):
            publish(publisher)
        assert time.monotonic() - started < 5
        proxy.silent = False
        publish(publisher)
        proxy.silent = True
        publisher.close()
        assert time.monotonic() - started < 10


def test_an_alarm_holds_no_publisher_for_longer_than_its_timeout(
    dedicated_node: Any, tmp_path: Path, connect: Connect
) -> None:
    Place.declared(dedicated_node.amqp_url, tmp_path, ONE_SHARD)
    publisher = connect(dedicated_node.amqp_url, timeout_seconds=1)
    publish(publisher)
    dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
    with pytest.raises(
        BrokerUnreachableError, match=r"^no answer within 1 s: RabbitMQ is stalled or has a resource alarm$"
    ):
        publish(publisher)
    dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
    publish(publisher)


class TestSeveralUnderWay:
    def send(self, publisher: ConfirmedPublisher, count: int, stored: list[int] | None = None) -> list[int]:
        """Send so many; the numbers of those that are stored, as it is told."""
        stored = [] if stored is None else stored
        for number in range(count):
            properties = BasicProperties(message_id=f"a:{number + 1}", delivery_mode=2, headers={"source": "a"})
            publisher.send("telemetry", "a.task", b"%d" % number, properties, partial(stored.append, number))
        return stored

    def send_all(self, publisher: ConfirmedPublisher, stored: list[int]) -> None:
        """Send some, and wait for them."""
        self.send(publisher, 10, stored)
        publisher.settle()

    def test_they_are_stored_in_order(self, place: Place, publisher: ConfirmedPublisher) -> None:
        stored = self.send(publisher, 500)
        assert len(stored) >= 500 - WINDOW
        publisher.settle()
        assert sorted(stored) == [*range(500)]
        with Client(place.amqp_url) as client:
            assert [int(taken.body) for taken in client.take("telemetry.fold.0", 500)] == [*range(500)]

    def test_those_that_no_queue_takes_are_not_called_stored(self, place: Place, publisher: ConfirmedPublisher) -> None:
        stored = self.send(publisher, 3)
        publisher.settle()
        with Client(place.amqp_url) as client:
            client.channel.queue_unbind("telemetry.fold.0", "telemetry", "#")
            with pytest.raises(PublishRefusedError, match=r"^returned: exchange 'telemetry' has no queue"):
                self.send_all(publisher, stored)
            client.channel.queue_bind("telemetry.fold.0", "telemetry", "#")
        assert len(stored) == 3
        publish(publisher)

    def test_those_under_way_at_a_loss_are_not_called_stored(self, node: Any, place: Place, connect: Connect) -> None:
        with Proxy(node.amqp_port) as proxy:
            url = place.amqp_url.replace(str(node.amqp_port), str(proxy.port))
            publisher = connect(url, timeout_seconds=0.5)
            publish(publisher)
            proxy.silent = True
            stored = self.send(publisher, 5)
            with pytest.raises(BrokerUnreachableError, match=r"^no answer within 0\.5"):
                publisher.settle()
            assert stored == []
            proxy.silent = False
            publish(publisher)
            publisher.close()

    def test_a_wait_ends_when_it_is_told_to(self, node: Any, place: Place, connect: Connect) -> None:
        with Proxy(node.amqp_port) as proxy:
            publisher = connect(place.amqp_url.replace(str(node.amqp_port), str(proxy.port)))
            publish(publisher)
            proxy.silent = True
            self.send(publisher, 1)
            began = time.monotonic()
            publisher.end_waits_at(began + 0.3)
            with pytest.raises(BrokerUnreachableError):
                publisher.settle()
            assert time.monotonic() - began < 10
            publisher.close()


def test_idle_keeps_a_connection_alive(place: Place, connect: Connect) -> None:
    publisher = connect(f"{place.amqp_url}?heartbeat=1")
    publish(publisher)
    for _ in range(4):
        publisher.idle(1)
    publish(publisher)


def test_without_a_broker_there_is_one_line(connect: Connect) -> None:
    publisher = connect("amqp://guest:secret@127.0.0.1:1/")
    with pytest.raises(
        BrokerUnreachableError,
        match=r"^RabbitMQ at 127\.0\.0\.1:1: Connection refused; check host ",
    ):
        publish(publisher)
    publisher.idle(0)


def test_wrong_credentials_are_refused_without_showing_them(vhost: Any, connect: Connect) -> None:
    publisher = connect(vhost.amqp_url.replace("guest:guest", "guest:hidden"))
    with pytest.raises(BrokerRefusedError, match=r"ACCESS_REFUSED") as caught:
        publish(publisher)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_virtual_host_that_does_not_exist_is_refused(vhost: Any, connect: Connect) -> None:
    publisher = connect(vhost.amqp_url.replace(vhost.name, "nowhere"))
    with pytest.raises(BrokerRefusedError, match=r"vhost nowhere not found"):
        publish(publisher)
