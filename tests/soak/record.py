"""A publisher's record: what it was about to publish, and what the broker has confirmed, in a file that outlives it.

An intent is written before its first publish, its confirm after; so after a SIGKILL everything that was published is
known, and what may not have been stored is the tail of intents without a confirm, which the publisher's next run sends
again under the same ids. Lines of JSON, appended; what one process has written to a file survives its SIGKILL. One
thread of one process writes.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson
import pika


class Intent(NamedTuple):
    """An envelope that is about to be published; each of its publishes is the same but for the time."""

    message_id: str
    source: str
    agent: str
    routing_key: str
    body: str

    @classmethod
    def of(cls, source: str, routing_key: str, body: bytes, properties: pika.BasicProperties) -> Self:
        """Record the message that the SDK is about to publish."""
        return cls(properties.message_id, source, properties.app_id, routing_key, body.decode())


class Record:
    """The record of one publisher over all its runs.

    Attributes:
        runs: how often it was started, this time included.
        unconfirmed: what was meant to be published and isn't known to be stored, in order.
    """

    def __init__(self, path: Path) -> None:
        self.unconfirmed: dict[str, Intent] = {}
        self.runs = 1
        whole = _whole_lines(path)
        for kind, *fields in lines(path):
            if kind == "intent":
                self.unconfirmed[fields[0]] = Intent(*fields)
            elif kind == "confirmed":
                del self.unconfirmed[fields[0]]
            elif kind == "run":
                self.runs += 1
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._descriptor, whole)
        self._write("run")

    def intend(self, intent: Intent) -> None:
        """Note an envelope before its publish; once is enough."""
        if intent.message_id not in self.unconfirmed:
            self.unconfirmed[intent.message_id] = intent
            self._write("intent", *intent)

    def confirm(self, message_id: str) -> None:
        """Note that the broker has stored it."""
        if self.unconfirmed.pop(message_id, None):
            self._write("confirmed", message_id)

    def end(self, source: str, steps: int) -> None:
        """Note that a run has ended in order, and how many steps it has reported in whatever envelopes."""
        self._write("end", source, steps)

    def _write(self, *line: Any) -> None:
        os.write(self._descriptor, orjson.dumps(line) + b"\n")


def lines(path: Path) -> Iterator[list[Any]]:
    """Every whole line of a record: `run`, `intent`, `confirmed` or `end`, and its fields."""
    if path.exists():
        yield from map(orjson.loads, path.read_bytes()[: _whole_lines(path)].splitlines())


def _whole_lines(path: Path) -> int:
    """How many bytes of a record are whole lines: a SIGKILL may tear the last, whose envelope wasn't published."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
