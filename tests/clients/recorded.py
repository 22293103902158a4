"""Publishes that real clients of other languages made, recorded from a broker, each with what it counts.

`recorded.jsonl` holds one a line: the client and its version, the properties as AMQP encodes them, the body, and the
series of a scrape, or the reason for which the body is refused. The clients published to a private RabbitMQ 3.10 node.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pika import BasicProperties

from busmon.settings.kinds import FormatRule

FORMATS = [
    FormatRule("otlp_metrics", "otlp"),
    FormatRule("telegraf", "influx"),
    FormatRule("prometheus.*", "prometheus"),
]


class Recorded(NamedTuple):
    """One publish.

    Attributes:
        client: its name and version.
        sends: in which of the client's forms.
        properties: as AMQP encodes them.
        counts: series to values; empty where the body is refused, or a heartbeat.
        refused: the reason; empty where the body is counted.
    """

    client: str
    sends: str
    routing_key: str
    properties: bytes
    body: bytes
    counts: Mapping[str, float]
    refused: str

    def __str__(self) -> str:
        return f"{self.client}: {self.sends}"


class RawProperties(BasicProperties):
    """Properties that are sent as they were recorded: pika has no name for some types of header."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__()
        self._encoded = recorded.properties

    def encode(self) -> list[bytes]:
        """The flags and the properties, as AMQP has them."""
        return [self._encoded]


def _recorded(stated: Mapping[str, Any]) -> Recorded:
    return Recorded(
        stated["client"],
        stated["sends"],
        stated["routing_key"],
        bytes.fromhex(stated["properties"]),
        base64.b64decode(stated["body"]),
        stated.get("counts", {}),
        stated.get("refused", ""),
    )


RECORDED: Sequence[Recorded] = [
    _recorded(json.loads(line)) for line in Path(__file__).with_suffix(".jsonl").read_text().splitlines()
]
