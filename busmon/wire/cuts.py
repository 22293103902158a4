"""Bodies in busmon's own JSON, cut at their numbers, and the texts between the numbers read alone.

The bodies of one program differ in their numbers and repeat what is between them. A body is cut with `bytes.split`,
which is cheaper than to parse it. Each text is parsed once, with a number in the place of the one that was cut out.

What makes that right: a text is accepted only if it and any number after it are whole members of a JSON list, and
JSON's members mean the same wherever they are. So a body whose head, texts and end are accepted, and whose numbers are
JSON's, is the JSON that its parts say. Pure.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from busmon.errors import EnvelopeError
from busmon.wire import json_v1

TS = b'"ts":'
VALUE = b'"value":'
END = b"]}"
"""The end of a body after its last sample."""

NUMBERS = frozenset({int, float})

_NOT_IN_HEAD = frozenset({"samples", "tables", "final"})
_SAMPLE: Sequence[set[str]] = ({"name", "labels", "value"}, {"name", "labels", "value", "type"})


class UncutError(Exception):
    """A body can't be cut; it may be right nevertheless."""


class Author(NamedTuple):
    """The publisher that a head names."""

    source: str
    agent: str


class Named(NamedTuple):
    """A sample without its value; each member as JSON has it."""

    name: Any
    labels: Any
    type: Any


def parse_numbers(numbers: Sequence[bytes]) -> list[Any]:
    """Parse the parts that were cut out of a body.

    As many values as parts, all of them numbers, mean one number in each part: a number has no comma, so each comma is
    one between two parts.

    Raises:
        UncutError: they aren't as many JSON values.
    """
    try:
        values: list[Any] = orjson.loads(b"[%b]" % b",".join(numbers))
    except orjson.JSONDecodeError:
        raise UncutError from None
    if len(values) != len(numbers):
        raise UncutError
    return values


def read_head(text: bytes) -> Author | None:
    """Read a body's beginning, up to the number of its time; None if the rest of the body may say more of the head."""
    try:
        document = orjson.loads(text + b"1}")
        if type(document) is not dict or _NOT_IN_HEAD & document.keys():
            return None
        envelope = json_v1.of_document({**document, "samples": []})
    except (orjson.JSONDecodeError, EnvelopeError):
        return None
    return Author(envelope.source, envelope.agent) if document.get("ts") == 1 else None


def read_sample(text: bytes, *, is_first: bool) -> Named | None:
    """Read the text before a sample's value; None if the sample has other members, or one behind the value.

    Args:
        text: begins with the member `samples` if no sample is before it, else behind the sample before.
        is_first: no sample is before it.
    """
    before, after = (b"{", b"0}]}") if is_first else (b"[{}", b"0}]")
    try:
        sample = _only_sample(orjson.loads(before + text + VALUE + after), is_first=is_first)
    except orjson.JSONDecodeError:
        return None
    if type(sample) is not dict or sample.keys() not in _SAMPLE or sample["value"] != 0:
        return None
    return Named(sample["name"], sample["labels"], sample.get("type"))


def _only_sample(parsed: Any, *, is_first: bool) -> Any:
    """Return the one sample in what was parsed; None if there is more or less in it."""
    if is_first:
        listed = parsed.get("samples") if parsed.keys() == {"samples"} else None
        return listed[0] if type(listed) is list and len(listed) == 1 else None
    return parsed[1] if len(parsed) == 2 and parsed[0] == {} else None  # noqa: PLR2004 - the one before it, and itself
