"""Raw publishes, as a program in any language makes them: many at once, confirmed together."""

import time
from collections.abc import Iterable
from typing import Any

import orjson
import pika


def envelope(source: str, sequence: int, samples: list[dict[str, Any]]) -> tuple[bytes, pika.BasicProperties]:
    """An envelope's body and properties, as the SDK makes them."""
    return _make(source, sequence, samples=samples)


def table(
    source: str, sequence: int, name: str, label: str, rows: list[list[Any]]
) -> tuple[bytes, pika.BasicProperties]:
    """An envelope of many counters in the SDK's form: each row has the label's value and the increment."""
    columns = {"name": name, "type": "counter", "labels": [label], "rows": rows}
    return _make(source, sequence, samples=[], tables=[columns])


def _make(source: str, sequence: int, **content: Any) -> tuple[bytes, pika.BasicProperties]:
    document = {"v": 1, "source": source, "agent": "analyzer", "ts": time.time(), **content}
    return orjson.dumps(document), properties(source, f"{source}:{sequence}")


def properties(source: str, message_id: str | None) -> pika.BasicProperties:
    """A publisher's properties."""
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=message_id,
        app_id="analyzer",
        headers={"source": source, "published_at_ns": time.time_ns()},
    )


def publish(amqp_url: str, bodies: Iterable[tuple[bytes, pika.BasicProperties]]) -> None:
    """Publish to the exchange; when this returns, the broker has them all."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.tx_select()
    for body, of_body in bodies:
        channel.basic_publish("telemetry", "analyzer.task", body, of_body)
    channel.tx_commit()
    connection.close()


def depth(amqp_url: str, queue: str) -> int:
    """How many messages are ready in a queue."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    found = connection.channel().queue_declare(queue, passive=True).method.message_count
    connection.close()
    return int(found)
