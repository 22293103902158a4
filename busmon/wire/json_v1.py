"""Version 1 of the wire format: one JSON object a body, as docs/wire-format.md describes it.

`decode` checks what makes a body an envelope and leaves its samples to the fold. It never expands more than it is
allowed to, and never raises anything but `EnvelopeError`. Pure.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import orjson

from busmon.bare import bare
from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.wire.body import plain
from busmon.wire.envelope import SOURCE_SEPARATOR, Envelope
from busmon.wire.times import is_time, seconds

VERSION = 1
CONTENT_TYPE = "application/json"
UNKNOWN_AGENT = "unknown"
MAX_NAME_CHARACTERS = 200
FORMAT = "json"

_USUAL = ("v", "source", "agent", "ts", "tables")
"""The members that the SDK sends."""
_MEMBERS = (*_USUAL, "samples", "final")
_usual_members = itemgetter(*_USUAL)

_SOURCE_RULE = f"'source' is 1 to {MAX_NAME_CHARACTERS} characters without U+{ord(SOURCE_SEPARATOR):04X}"

_BEFORE = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*")

_SAFE_DIGITS = 18
"""Whole numbers of so many digits fit 64 bits; longer ones are floats, as orjson has it."""


def decode(body: bytes, content_type: str | None, content_encoding: str | None, max_bytes: int) -> Envelope:
    """Decode the envelope in a body.

    Args:
        body: the body as delivered.
        content_type: AMQP's property; None or JSON's.
        content_encoding: AMQP's property; None or `gzip`.
        max_bytes: what a body may have, after decompression.

    Raises:
        EnvelopeError: it is no envelope; the reason is one of `content_type`, `content_encoding`, `too_large`,
            `empty_body`, `invalid_json`, `invalid_envelope`, `version`.
    """
    if content_type and content_type != CONTENT_TYPE and not is_json(content_type):
        raise EnvelopeError(BodyReason.CONTENT_TYPE, f"expected {CONTENT_TYPE}, got {content_type[:80]!r}")
    return of_document(parse(body, content_encoding, max_bytes))


def parse(body: bytes, content_encoding: str | None, max_bytes: int) -> Any:
    """Parse the JSON in a body.

    Raises:
        EnvelopeError: `content_encoding`, `too_large`, `empty_body` or `invalid_json`.
    """
    if content_encoding or not 0 < len(body) <= max_bytes:
        body = plain(body, content_encoding, max_bytes)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _parse_leniently(body, error)


def of_document(document: Any) -> Envelope:  # noqa: C901 - one look at each member
    """Make an envelope from a JSON value.

    Raises:
        EnvelopeError: `invalid_envelope` or `version`.
    """
    if type(document) is not dict:
        raise EnvelopeError(BodyReason.INVALID_ENVELOPE, f"expected an object, got {_kind(document)}")
    try:
        version, source, agent, ts, tables = _usual_members(document)
        samples = final = None
        if len(document) > len(_USUAL):
            samples, final = document.get("samples"), document.get("final")
    except KeyError:
        version, source, agent, ts, tables, samples, final = map(document.get, _MEMBERS)
    if version != VERSION or type(version) is not int:
        raise EnvelopeError(BodyReason.VERSION, f'expected "v": {VERSION}, got {_show(version)}')
    if type(source) is not str or not 0 < len(source) <= MAX_NAME_CHARACTERS or SOURCE_SEPARATOR in source:
        raise EnvelopeError(BodyReason.INVALID_ENVELOPE, _SOURCE_RULE)
    if type(agent) is not str or not 0 < len(agent) <= MAX_NAME_CHARACTERS:
        agent = _no_agent(agent)
    if ts is not None and not is_time(ts):
        ts = _seconds(ts)
    if samples is None and tables is None and not {"samples", "tables"} & document.keys():
        raise EnvelopeError(BodyReason.INVALID_ENVELOPE, "'samples' or 'tables' is required, and may be empty")
    if type(samples) is not list:
        samples = _none(samples, "samples")
    if type(tables) is not list:
        tables = _none(tables, "tables")
    is_final = final is not None and _flag(final, "final")
    return bare(Envelope, (source, agent, ts, samples, tables, is_final, (), None, FORMAT, None, False))


def encode(source: str, agent: str, ts: float, samples: Sequence[Any], tables: Sequence[Any]) -> bytes:
    """Encode the body of an envelope; `ts` in seconds since the epoch."""
    document: dict[str, Any] = {"v": VERSION, "source": source, "agent": agent, "ts": ts, "tables": tables}
    if samples:
        document["samples"] = samples
    return orjson.dumps(document)


def encode_final(source: str, agent: str, ts: float) -> bytes:
    """Encode a source's last envelope, which only says that it stops."""
    return orjson.dumps({"v": VERSION, "source": source, "agent": agent, "ts": ts, "tables": [], "final": True})


def is_json(content_type: str) -> bool:
    """Tell whether a content type, with parameters or in capitals, is JSON's."""
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def trim(body: bytes) -> bytes:
    """Return JSON without the white space and the byte order mark before it, and the NULs behind it."""
    return body[_BEFORE.match(body).end() :].rstrip(b"\0 \t\r\n")  # type: ignore[union-attr]  # it matches nothing, too


def _parse_leniently(plain: bytes, error: orjson.JSONDecodeError) -> Any:
    """Parse what some encoders make of JSON.

    A byte order mark or C's NUL is cut off. Python's own encoder writes NaN and Infinity: only such samples are lost.
    """
    trimmed_body = trim(plain)
    if len(trimmed_body) < len(plain):
        plain = trimmed_body
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(plain)
    try:
        document = json.loads(plain.decode(), parse_int=_integer)
        orjson.dumps(document)  # refuses the lone surrogates that json lets through and no exposition can hold
    except (ValueError, TypeError, RecursionError):
        raise EnvelopeError(BodyReason.INVALID_JSON, str(error)) from error
    return document


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _SAFE_DIGITS else float(digits)


def _no_agent(value: Any) -> str:
    """Return the name of an agent that isn't stated.

    Raises:
        EnvelopeError: something else is stated.
    """
    if value is not None and value != "":
        raise EnvelopeError(BodyReason.INVALID_ENVELOPE, f"'agent' is 1 to {MAX_NAME_CHARACTERS} characters")
    return UNKNOWN_AGENT


def _seconds(ts: Any) -> float | None:
    try:
        return seconds(ts)
    except ValueError as error:
        raise EnvelopeError(
            BodyReason.INVALID_ENVELOPE, "'ts' is seconds since the epoch, or a time by RFC 3339"
        ) from error


def _none(value: Any, member: str) -> list[Any]:
    if value is not None:
        raise EnvelopeError(BodyReason.INVALID_ENVELOPE, f"'{member}' is a list, got {_kind(value)}")
    return []


def _flag(value: Any, member: str) -> bool:
    if type(value) is not bool:
        raise EnvelopeError(BodyReason.INVALID_ENVELOPE, f"'{member}' is true or false, got {_kind(value)}")
    return value


def _show(value: object) -> str:
    """Format a value for a person, without the contents of an object or list, which may be nested too deep."""
    return _kind(value) if isinstance(value, dict | list) else json.dumps(value)[:80]


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
