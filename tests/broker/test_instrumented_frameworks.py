"""Task frameworks that are instrumented, on a real broker: each task counts once, with its status and its duration."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from faststream.exceptions import AckMessage, NackMessage, RejectMessage, SkipMessage
from faststream.rabbit import RabbitBroker, RabbitQueue
from taskiq import InMemoryBroker, SimpleRetryMiddleware
from taskiq.exceptions import NoResultError
from taskiq_aio_pika import AioPikaBroker

from busmon.instrument import DramatiqMiddleware, FastStreamMiddleware, TaskiqTelemetry

from .figures import cells, silent_telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from busmon.publish import Telemetry


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with silent_telemetry() as telemetry:
        yield telemetry


def split(figures: dict[tuple[str, ...], Any]) -> tuple[dict[tuple[str, ...], Any], dict[tuple[str, ...], int]]:
    """Counts, and of each histogram the number of observations."""
    counts = {key: cell for key, cell in figures.items() if isinstance(cell, int | float)}
    return counts, {key: _observations(cell) for key, cell in figures.items() if key not in counts}


def _observations(cell: Any) -> int:
    """A cell holds observations one by one, or counts by bucket and their sum."""
    return sum(cell["buckets"].values()) if isinstance(cell, dict) else len(cell)


def test_faststream_counts_messages_and_handlers(vhost: Any, telemetry: Telemetry) -> None:
    answers: dict[str, type[Exception] | None] = {
        "ok": None,
        "ack": AckMessage,
        "nack": NackMessage,
        "reject": RejectMessage,
        "skip": SkipMessage,
        "raise": ValueError,
    }

    async def work() -> None:
        broker = RabbitBroker(vhost.amqp_url, middlewares=[FastStreamMiddleware(telemetry)], logger=None)
        seen: asyncio.Queue[str] = asyncio.Queue()

        @broker.subscriber(RabbitQueue("plans", auto_delete=True))  # type: ignore[untyped-decorator]
        async def handle(name: str) -> None:
            await seen.put(name)
            if (error := answers[name]) is not None:
                raise error(*(["bad"] if error is ValueError else []), **({"requeue": False} if name == "nack" else {}))

        async with broker:
            await broker.start()
            for name in answers:
                await broker.publish(name, queue="plans")
            assert [await seen.get() for _ in answers] == list(answers)

    asyncio.run(work())
    counts, observations = split(cells(telemetry))
    assert counts == {
        ("messages_published_total", "", "plans"): 6,
        ("messages_consumed_total", "plans", "analyzer"): 6,
        ("tasks_processed_total", "analyzer", "success"): 2,
        ("tasks_processed_total", "analyzer", "failure"): 3,
        ("task_failures_total", "analyzer", "internal"): 2,
        ("task_failures_total", "analyzer", "validation"): 1,
        ("active_tasks_count",): 0,
    }
    assert observations == {
        ("message_latency_seconds", "plans"): 6,
        ("message_size_bytes", "none"): 6,
        ("task_duration_seconds", "analyzer"): 6,
    }


def test_faststream_counts_no_message_that_the_broker_returns(vhost: Any, telemetry: Telemetry) -> None:
    async def work() -> None:
        async with RabbitBroker(vhost.amqp_url, middlewares=[FastStreamMiddleware(telemetry)], logger=None) as broker:
            await broker.publish("lost", queue="nowhere")

    asyncio.run(work())
    assert cells(telemetry) == {}


def test_dramatiq_counts_messages_attempts_and_ends(vhost: Any, telemetry: Telemetry) -> None:
    broker = RabbitmqBroker(url=vhost.amqp_url)
    broker.add_middleware(DramatiqMiddleware(telemetry))
    given_up = Event()

    class GiveUp(dramatiq.Middleware):
        def after_nack(self, *_: Any) -> None:
            given_up.set()

    broker.add_middleware(GiveUp())

    @dramatiq.actor(broker=broker, queue_name="plans", max_retries=1, min_backoff=1, max_backoff=1)
    def plan(name: str) -> None:
        if name == "bad":
            raise ConnectionError(name)

    for name in ("one", "two", "bad"):
        plan.send(name)
    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    try:
        assert given_up.wait(60)
        broker.join("plans")
        worker.join()
    finally:
        worker.stop()
        broker.close()
    counts, observations = split(cells(telemetry))
    assert counts == {
        ("messages_published_total", "", "plans"): 4,
        ("messages_published_total", "", "plans.DQ"): 1,
        ("messages_consumed_total", "plans", "analyzer"): 4,
        ("tasks_processed_total", "analyzer", "success"): 2,
        ("tasks_processed_total", "analyzer", "failure"): 1,
        ("task_failures_total", "analyzer", "dependency"): 2,
        ("active_tasks_count",): 0,
    }
    assert observations == {("message_latency_seconds", "plans"): 3, ("task_duration_seconds", "analyzer"): 4}


def test_dramatiq_without_retries_counts_a_failed_message_as_processed(vhost: Any, telemetry: Telemetry) -> None:
    settled = Event()

    class Settled(dramatiq.Middleware):
        def before_ack(self, *_: Any) -> None:  # `after_ack` of later middleware comes first
            settled.set()

    broker = RabbitmqBroker(url=vhost.amqp_url, middleware=[DramatiqMiddleware(telemetry), Settled()])

    @dramatiq.actor(broker=broker, queue_name="plans")
    def plan() -> None:
        raise ConnectionError("away")

    plan.send()
    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=1)
    worker.start()
    try:
        assert settled.wait(60)
        broker.join("plans")
        worker.join()
    finally:
        worker.stop()
        broker.close()
    counts, _ = split(cells(telemetry))
    assert counts == {
        ("messages_published_total", "", "plans"): 1,
        ("messages_consumed_total", "plans", "analyzer"): 1,
        ("tasks_processed_total", "analyzer", "failure"): 1,
        ("task_failures_total", "analyzer", "dependency"): 1,
        ("active_tasks_count",): 0,
    }


def test_taskiq_counts_a_task_that_is_retried_once_and_each_failed_attempt(telemetry: Telemetry) -> None:
    async def work() -> None:
        broker = InMemoryBroker(await_inplace=True)
        broker.add_middlewares(SimpleRetryMiddleware(default_retry_count=3), TaskiqTelemetry(telemetry))
        attempts: list[str] = []

        @broker.task(retry_on_error=True)
        async def plan(name: str) -> None:
            attempts.append(name)
            if name == "bad" or attempts.count(name) < 3:
                raise ConnectionError(name)

        @broker.task
        async def withhold() -> None:
            raise NoResultError

        await broker.startup()
        await plan.kiq("later")
        await plan.kiq("bad")
        await withhold.kiq()
        await broker.shutdown()

    asyncio.run(work())
    counts, observations = split(cells(telemetry))
    assert counts == {
        ("tasks_processed_total", "analyzer", "success"): 2,
        ("tasks_processed_total", "analyzer", "failure"): 1,
        ("task_failures_total", "analyzer", "dependency"): 5,
        ("active_tasks_count",): 0,
    }
    assert observations == {("task_duration_seconds", "analyzer"): 7}


@pytest.mark.parametrize("kind", ["in memory", "on the broker"])
def test_taskiq_counts_tasks(vhost: Any, telemetry: Telemetry, kind: str) -> None:
    async def work() -> None:
        on_broker = AioPikaBroker(vhost.amqp_url)
        broker = InMemoryBroker(await_inplace=True) if kind == "in memory" else on_broker
        broker.add_middlewares(TaskiqTelemetry(telemetry))
        ended: asyncio.Queue[str] = asyncio.Queue()

        @broker.task
        async def plan(name: str) -> None:
            await ended.put(name)
            if name == "slow":
                raise TimeoutError(name)

        broker.is_worker_process = kind != "in memory"
        await broker.startup()
        for name in ("one", "two", "slow"):
            await plan.kiq(name)
        if kind != "in memory":
            await _receive(on_broker, 3)
        assert sorted([await ended.get() for _ in range(3)]) == ["one", "slow", "two"]
        await broker.shutdown()

    asyncio.run(work())
    counts, observations = split(cells(telemetry))
    assert counts == {
        ("tasks_processed_total", "analyzer", "success"): 2,
        ("tasks_processed_total", "analyzer", "failure"): 1,
        ("task_failures_total", "analyzer", "timeout"): 1,
        ("active_tasks_count",): 0,
    }
    assert observations == {("task_duration_seconds", "analyzer"): 3}


async def _receive(broker: AioPikaBroker, messages: int) -> None:
    """Run so many tasks, as Taskiq's worker does."""
    from taskiq.receiver import Receiver  # noqa: PLC0415 - it sets up a logger

    receiver = Receiver(broker, max_async_tasks=4)
    async for message in broker.listen():
        await receiver.callback(message)
        messages -= 1
        if not messages:
            return
