"""A channel of aio-pika that is instrumented does what it did, and its messages are counted, sized and timed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError, PublishError

from busmon.instrument import instrument_channel

from .figures import cells, silent_telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from busmon.demo.broker import PrivateNode
    from busmon.publish import Telemetry

CONNECT = {"robust": aio_pika.connect_robust, "plain": aio_pika.connect}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with silent_telemetry() as telemetry:
        yield telemetry


@pytest.mark.parametrize("connect", CONNECT.values(), ids=CONNECT)
def test_what_goes_through_it_is_counted_sized_and_timed(
    vhost: Any, telemetry: Telemetry, connect: Callable[..., Any]
) -> None:
    async def work() -> list[bytes]:
        async with await connect(vhost.amqp_url) as connection:
            channel = instrument_channel(telemetry, await connection.channel())
            events = await channel.declare_exchange("events", aio_pika.ExchangeType.TOPIC)
            queue = await channel.declare_queue("tasks")
            await queue.bind(events, "plan.#")
            await channel.default_exchange.publish(aio_pika.Message(b"one"), "tasks")
            await (await channel.get_exchange("events")).publish(aio_pika.Message(b"two", type="plan"), "plan.new")
            bodies = []
            async with queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        bodies.append(message.body)
                    if len(bodies) == 2:
                        break
            await channel.default_exchange.publish(aio_pika.Message(b"three"), "tasks")
            bodies.append((await queue.get(no_ack=True)).body)
            assert await queue.get(fail=False) is None
            return bodies

    assert sorted(asyncio.run(work())) == [b"one", b"three", b"two"]
    figures = cells(telemetry)
    latencies = figures.pop(("message_latency_seconds", "tasks"))
    assert len(latencies) == 3
    assert all(0 <= latency < 60 for latency in latencies)
    assert figures == {
        ("messages_published_total", "", "tasks"): 2,
        ("messages_published_total", "events", "plan.new"): 1,
        ("message_confirmations_total", "", "confirmed"): 2,
        ("message_confirmations_total", "events", "confirmed"): 1,
        ("messages_consumed_total", "tasks", "analyzer"): 3,
        ("message_size_bytes", "none"): [3, 3, 5, 5],
        ("message_size_bytes", "plan"): [3, 3],
    }


@pytest.mark.parametrize("raises", [True, False])
def test_an_unroutable_message_counts_as_returned_and_not_as_published(
    vhost: Any, telemetry: Telemetry, *, raises: bool
) -> None:
    async def work() -> None:
        async with await aio_pika.connect_robust(vhost.amqp_url) as connection:
            channel = instrument_channel(telemetry, await connection.channel(on_return_raises=raises))
            publish = channel.default_exchange.publish(aio_pika.Message(b"lost"), "nowhere")
            if raises:
                with pytest.raises(PublishError):
                    await publish
            else:
                await publish

    asyncio.run(work())
    assert cells(telemetry) == {("message_confirmations_total", "", "returned"): 1}


def test_a_refused_message_counts_as_refused_and_not_as_published(vhost: Any, telemetry: Telemetry) -> None:
    async def work() -> None:
        async with await aio_pika.connect_robust(vhost.amqp_url) as connection:
            channel = instrument_channel(telemetry, await connection.channel())
            await channel.declare_queue("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
            await channel.default_exchange.publish(aio_pika.Message(b"one"), "full")
            with pytest.raises(DeliveryError):
                await channel.default_exchange.publish(aio_pika.Message(b"two"), "full")

    asyncio.run(work())
    figures = cells(telemetry)
    assert figures["message_confirmations_total", "", "confirmed"] == 1
    assert figures["message_confirmations_total", "", "refused"] == 1
    assert figures["messages_published_total", "", "full"] == 1


def test_a_message_that_is_published_again_is_stamped_again_and_left_alone(vhost: Any, telemetry: Telemetry) -> None:
    async def work() -> list[Any]:
        async with await aio_pika.connect_robust(vhost.amqp_url) as connection:
            channel = instrument_channel(telemetry, await connection.channel())
            queue = await channel.declare_queue("tasks")
            message = aio_pika.Message(b"one", headers={"a": 1})
            for _ in range(2):
                await channel.default_exchange.publish(message, "tasks")
            assert message.headers == {"a": 1}
            return [(await queue.get(no_ack=True)).headers["published_at_ns"] for _ in range(2)]

    first, second = asyncio.run(work())
    assert first < second


@pytest.mark.parametrize("connect", CONNECT.values(), ids=CONNECT)
def test_a_channel_may_be_instrumented_before_it_is_open(
    vhost: Any, telemetry: Telemetry, connect: Callable[..., Any]
) -> None:
    async def work() -> None:
        async with (
            await connect(vhost.amqp_url) as connection,
            instrument_channel(telemetry, connection.channel()) as channel,
        ):
            queue = await channel.declare_queue("tasks")
            await channel.default_exchange.publish(aio_pika.Message(b"one"), "tasks")
            assert (await queue.get(no_ack=True)).body == b"one"

    asyncio.run(work())
    figures = cells(telemetry)
    assert figures["messages_published_total", "", "tasks"] == 1
    assert figures["messages_consumed_total", "tasks", "analyzer"] == 1


def test_other_channels_of_the_connection_count_nothing(vhost: Any, telemetry: Telemetry) -> None:
    async def work() -> None:
        async with await aio_pika.connect_robust(vhost.amqp_url) as connection:
            instrument_channel(telemetry, await connection.channel())
            other = await connection.channel()
            await other.declare_queue("tasks")
            await other.default_exchange.publish(aio_pika.Message(b"one"), "tasks")

    asyncio.run(work())
    assert cells(telemetry) == {}


def test_a_channel_that_is_instrumented_again_counts_each_message_once(vhost: Any, telemetry: Telemetry) -> None:
    async def work() -> None:
        async with await aio_pika.connect_robust(vhost.amqp_url) as connection:
            channel = await connection.channel()
            for _ in range(2):
                instrument_channel(telemetry, channel)
            queue = await channel.declare_queue("tasks")
            await channel.default_exchange.publish(aio_pika.Message(b"one"), "tasks")
            assert (await queue.get(no_ack=True)).body == b"one"

    asyncio.run(work())
    figures = cells(telemetry)
    assert figures["messages_published_total", "", "tasks"] == 1
    assert figures["messages_consumed_total", "tasks", "analyzer"] == 1
    assert figures["message_confirmations_total", "", "confirmed"] == 1
    assert figures["message_size_bytes", "none"] == [3, 3]


def test_a_consumer_that_a_reconnect_restores_counts_each_message_once(
    node: PrivateNode, vhost: Any, telemetry: Telemetry
) -> None:
    async def work() -> None:
        connection = await aio_pika.connect_robust(vhost.amqp_url, client_properties={"connection_name": vhost.name})
        async with connection:
            channel = instrument_channel(telemetry, await connection.channel())
            queue = await channel.declare_queue("tasks", durable=True)
            arrived: asyncio.Queue[bytes] = asyncio.Queue()

            async def take(message: Any) -> None:
                await message.ack()
                await arrived.put(message.body)

            await queue.consume(take)
            await channel.default_exchange.publish(aio_pika.Message(b"one"), "tasks")
            assert await arrived.get() == b"one"
            lost = asyncio.Event()
            connection.close_callbacks.add(lambda *_: lost.set())
            await _close_connection_of(node, vhost.name)
            await lost.wait()
            await channel.ready()
            await channel.default_exchange.publish(aio_pika.Message(b"two"), "tasks")
            assert await arrived.get() == b"two"

    asyncio.run(work())
    figures = cells(telemetry)
    assert figures["messages_consumed_total", "tasks", "analyzer"] == 2
    assert figures["messages_published_total", "", "tasks"] == 2


async def _close_connection_of(node: PrivateNode, vhost: str) -> None:
    """Close the only connection of a virtual host, as soon as the management API lists it."""
    while True:
        answer = await asyncio.to_thread(node.management, "GET", f"/api/vhosts/{vhost}/connections")
        if names := [each["name"] for each in json.loads(answer)]:
            await asyncio.to_thread(node.management, "DELETE", f"/api/connections/{quote(names[0])}")
            return
        await asyncio.sleep(0.1)
