"""A backlog that every consumer under measurement drains: the same envelopes, in the same order, on a quorum queue."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import pika

SOURCES = 20
SERIES = 100
OBSERVED_EVERY = 5
"""One sample in so many is a histogram's observation, the others are counters' increments."""


Pick = Callable[[int], int]
"""Which series a sample is of, by its number."""


def in_turn(number: int) -> int:
    """Pick a hundred series in turn."""
    return number % SERIES


def envelopes(
    count: int, samples: int, form: str, pick: Pick = in_turn, user_id: str | None = None
) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Make bodies with their properties, as the SDK sends them.

    Args:
        count: how many.
        samples: in each.
        form: `tables`, as the SDK has it, or `samples`, as one writes it by hand.
        pick: the samples' series.
        user_id: the user that publishes; None leaves it out, as a publisher by hand does.
    """
    run = time.time_ns()
    for number in range(count):
        source, sequence = f"agent-{run}-{number % SOURCES}", number // SOURCES + 1
        picked = [pick(number * samples + index) for index in range(samples)]
        content = _tables(picked) if form == "tables" else _samples(picked)
        body = orjson.dumps({"v": 1, "source": source, "agent": "analyzer", "ts": time.time(), **content})
        yield (
            body,
            pika.BasicProperties(
                content_type="application/json",
                delivery_mode=2,
                message_id=f"{source}:{sequence}",
                app_id="analyzer",
                user_id=user_id,
                timestamp=time.time_ns() // 1_000_000_000 if user_id else None,
                headers={"source": source, "published_at_ns": time.time_ns()},
            ),
        )


def is_observed(series: int) -> bool:
    """Tell whether the series is a histogram's."""
    return series % OBSERVED_EVERY == OBSERVED_EVERY - 1


def _tables(picked: list[int]) -> dict[str, object]:
    counters = [[f"exchange-{n % 10}", f"task.{n}", 1] for n in picked if not is_observed(n)]
    observed = [[f"analyzer-{n}", [0.2]] for n in picked if is_observed(n)]
    tables: list[dict[str, list[Any] | str]] = [
        {"name": "messages_published_total", "labels": ["exchange", "routing_key"], "rows": counters},
        {"name": "task_duration_seconds", "labels": ["agent"], "rows": observed},
    ]
    return {"tables": [table for table in tables if table["rows"]]}


def _samples(picked: list[int]) -> dict[str, object]:
    return {
        "samples": [
            {"name": "task_duration_seconds", "labels": {"agent": f"analyzer-{n}"}, "value": 0.2}
            if is_observed(n)
            else {
                "name": "messages_published_total",
                "labels": {"exchange": f"exchange-{n % 10}", "routing_key": f"task.{n}"},
                "value": 1,
            }
            for n in picked
        ]
    }


def publish(
    amqp_url: str,
    exchange: str,
    backlog: Iterable[tuple[bytes, pika.BasicProperties]],
    at_commit: Callable[[], object] = lambda: None,
) -> None:
    """Put the backlog into the broker, and wait until it is all there; nothing is delivered before `at_commit`."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.tx_select()
    for body, properties in backlog:
        channel.basic_publish(exchange, "analyzer.task", body, properties)
    at_commit()
    channel.tx_commit()
    connection.close()
