"""Version 1 of the wire format: one JSON object a body, as docs/wire-format.md describes it.

`decode` checks what makes a body an envelope and leaves its samples to the fold. It never expands more than it is
allowed to, and never raises anything but `EnvelopeError`. Pure.
"""

import gzip
import io
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import orjson

from busmon.errors import EnvelopeError
from busmon.wire.envelope import Envelope

VERSION = 1
CONTENT_TYPE = "application/json"
UNKNOWN_AGENT = "unknown"
MAX_NAME_CHARACTERS = 200

_GZIP = 31
"""zlib's window bits for a gzip header and 32 KiB of history."""

_SAFE_DIGITS = 18
"""Whole numbers of so many digits fit 64 bits; longer ones are floats, as orjson has it."""


def decode(body: bytes, content_type: str | None, content_encoding: str | None, max_bytes: int) -> Envelope:
    """The envelope in a body.

    Args:
        body: the body as delivered.
        content_type: AMQP's property; None or JSON's.
        content_encoding: AMQP's property; None or `gzip`.
        max_bytes: what a body may have, after decompression.

    Raises:
        EnvelopeError: it is no envelope; the reason is one of `content_type`, `content_encoding`, `too_large`,
            `empty_body`, `invalid_json`, `invalid_envelope`, `version`.
    """
    if content_type and content_type != CONTENT_TYPE and not _is_json(content_type):
        raise EnvelopeError("content_type", f"expected {CONTENT_TYPE}, got {content_type[:80]!r}")
    if content_encoding or not 0 < len(body) <= max_bytes:
        body = _plain(body, content_encoding or "", max_bytes)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _parse_leniently(body, error)
    if type(document) is not dict:
        raise EnvelopeError("invalid_envelope", f"expected an object, got {_kind(document)}")
    return _envelope(document)


def encode(source: str, agent: str, ts: float, samples: Sequence[Any], tables: Sequence[Any]) -> bytes:
    """The body of an envelope; `ts` in seconds since the epoch."""
    document: dict[str, Any] = {"v": VERSION, "source": source, "agent": agent, "ts": ts, "tables": tables}
    if samples:
        document["samples"] = samples
    return orjson.dumps(document)


def encode_final(source: str, agent: str, ts: float) -> bytes:
    """The body of a source's last envelope, which says that it stops, and nothing else."""
    return orjson.dumps({"v": VERSION, "source": source, "agent": agent, "ts": ts, "tables": [], "final": True})


def _is_json(content_type: str) -> bool:
    """Whether a content type with parameters, or in capitals, is JSON's."""
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def _plain(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    if not body:
        raise EnvelopeError("empty_body", "expected a JSON object")
    if len(body) > max_bytes:
        raise EnvelopeError("too_large", f"{len(body)} bytes; at most {max_bytes} are accepted")
    if content_encoding.lower() in {"", "identity"}:
        return body
    if content_encoding.lower() != "gzip":
        raise EnvelopeError("content_encoding", f"expected gzip or none, got {content_encoding[:80]!r}")
    return _expanded(body, max_bytes)


def _expanded(body: bytes, max_bytes: int) -> bytes:
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, max_bytes + 1)
        if stream.unused_data:
            plain = _members(body, max_bytes)
    except (zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise EnvelopeError("content_encoding", f"not gzip: {error}") from error
    if len(plain) > max_bytes:
        raise EnvelopeError("too_large", f"it expands to more than the {max_bytes} bytes that are accepted")
    if not stream.eof:
        raise EnvelopeError("content_encoding", "the gzip stream is cut off")
    return plain


def _members(body: bytes, max_bytes: int) -> bytes:
    """All members of a gzip stream (RFC 1952, 2.2); for one alone, zlib takes a hundredth of the time."""
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
        return stream.read(max_bytes + 1)


def _parse_leniently(plain: bytes, error: orjson.JSONDecodeError) -> Any:
    """Python's own encoder writes NaN and Infinity, which isn't JSON; only such samples are lost."""
    try:
        document = json.loads(plain.decode(), parse_int=_integer)
        orjson.dumps(document)  # refuses the lone surrogates that json lets through and no exposition can hold
    except (ValueError, TypeError, RecursionError):
        raise EnvelopeError("invalid_json", str(error)) from error
    return document


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _SAFE_DIGITS else float(digits)


def _envelope(document: dict[str, Any]) -> Envelope:
    member = document.get
    version, source, agent, ts = member("v"), member("source"), member("agent"), member("ts")
    samples, tables, final = member("samples"), member("tables"), member("final")
    if version != VERSION or type(version) is not int:
        raise EnvelopeError("version", f'expected "v": {VERSION}, got {_shown(version)}')
    if type(source) is not str or not 0 < len(source) <= MAX_NAME_CHARACTERS:
        raise EnvelopeError("invalid_envelope", f"'source' is 1 to {MAX_NAME_CHARACTERS} characters")
    if agent is None:
        agent = UNKNOWN_AGENT
    elif type(agent) is not str or not 0 < len(agent) <= MAX_NAME_CHARACTERS:
        raise EnvelopeError("invalid_envelope", f"'agent' is 1 to {MAX_NAME_CHARACTERS} characters")
    if ts is not None and not is_time(ts):
        raise EnvelopeError("invalid_envelope", "'ts' is seconds since the epoch")
    if samples is None and tables is None:
        raise EnvelopeError("invalid_envelope", "'samples' or 'tables' is required, and may be empty")
    if type(samples) is not list:
        samples = _none(samples, "samples")
    if type(tables) is not list:
        tables = _none(tables, "tables")
    return Envelope(source, agent, ts, samples, tables, final is not None and _flag(final, "final"))


def is_time(value: object) -> bool:
    """Whether a JSON value is a point in time: a positive, finite number that isn't a boolean."""
    return (type(value) is float or type(value) is int) and 0 < value < math.inf


def _none(value: Any, member: str) -> list[Any]:
    if value is not None:
        raise EnvelopeError("invalid_envelope", f"'{member}' is a list, got {_kind(value)}")
    return []


def _flag(value: Any, member: str) -> bool:
    if type(value) is not bool:
        raise EnvelopeError("invalid_envelope", f"'{member}' is true or false, got {_kind(value)}")
    return value


def _shown(value: object) -> str:
    """A value for a person; not what is in an object or a list, which may be nested too deep to be written."""
    return _kind(value) if isinstance(value, dict | list) else json.dumps(value)[:80]


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
