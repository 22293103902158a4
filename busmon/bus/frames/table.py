"""AMQP's field tables as bytes: the fields of some names are read, kept or left out, and the others aren't decoded.

So a table passes through unchanged though pika can't decode some of its values, or can't encode them again. Pure.
"""

from collections.abc import Collection, Iterator, Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names its exception like a variable
from typing import Any

from pika.data import decode_value, encode_table
from pika.exceptions import AMQPError

UNDECODABLE = (AMQPError, ArithmeticError, LookupError, OSError, RecursionError, StructError, ValueError)
"""Raised by pika, and here, for a table or a value that can't be decoded."""

_LENGTH = Struct(">I")
_LONG = frozenset(b"SxAF")
"""The kinds whose value begins with its length."""

_SIZES = {
    ord(kind): size
    for kinds, size in (("V", 0), ("tbB", 1), ("sUu", 2), ("Iif", 4), ("D", 5), ("lLdT", 8))
    for kind in kinds
}

_Field = tuple[bytes, int, int, int]
"""The name, and the places of the field's first byte, its kind, and the byte behind it."""


def encode_fields(fields: Mapping[str, Any]) -> bytes:
    """Encode the fields of a table, without the table's length.

    Raises:
        pika.exceptions.AMQPError: a value has no encoding.
    """
    pieces: list[bytes] = []
    encode_table(pieces, dict(fields))
    return b"".join(pieces[1:])


def read_fields(fields: bytes, names: Collection[str]) -> dict[str, Any]:
    """Return the values of the fields with these names; of several with one name the last counts.

    A value that pika can't decode is None. A table that isn't one has no values.
    """
    wanted = {name.encode(): name for name in names}
    found = {}
    try:
        for name, _, kind, _ in _each(fields):
            if name in wanted:
                found[wanted[name]] = _decode(fields, kind)
    except UNDECODABLE:
        return {}
    return found


def leave_out(names: Collection[str], fields: bytes) -> bytes:
    """Return the fields without those of these names; none if they aren't fields."""
    return _choose(fields, names, is_kept=False)


def keep(names: Collection[str], fields: bytes) -> bytes:
    """Return the fields of these names; none if they aren't fields."""
    return _choose(fields, names, is_kept=True)


def _choose(fields: bytes, names: Collection[str], *, is_kept: bool) -> bytes:
    chosen = {name.encode() for name in names}
    try:
        return b"".join(fields[start:end] for name, start, _, end in _each(fields) if (name in chosen) is is_kept)
    except UNDECODABLE:
        return b""


def _each(fields: bytes) -> Iterator[_Field]:
    """Yield each field.

    Raises:
        IndexError, KeyError, struct.error: the bytes aren't fields; RabbitMQ sends no such bytes.
    """
    at = 0
    while at < len(fields):
        start, kind = at, at + 1 + fields[at]
        which = fields[kind]
        at = kind + 1
        at += _LENGTH.size + _LENGTH.unpack_from(fields, at)[0] if which in _LONG else _SIZES[which]
        if at > len(fields):
            raise IndexError
        yield fields[start + 1 : kind], start, kind, at


def _decode(fields: bytes, kind: int) -> Any:
    try:
        return decode_value(fields, kind)[0]
    except UNDECODABLE:
        return None
