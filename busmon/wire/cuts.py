"""Bodies in busmon's own JSON, cut at their numbers: what a text between two numbers says, read alone.

The bodies of one program differ in their numbers and repeat what is between them. So each text is read once, and bodies
of such texts need no parser. The *context* is where a number stands: in which JSON arrays and objects, and in which
table. It is all that the rest of a body can know of what was before it.

What makes that right: a text is parsed with the least JSON around it that has the context before and the one behind,
and with 1 in the place of both numbers. It is accepted only if it adds whole members behind the number before it, and
changes nothing that stood before. JSON's members mean the same wherever they are. So a body whose head and texts are
accepted, each in the context of the one before, is the JSON that they say. Pure.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from busmon.errors import EnvelopeError
from busmon.wire import json_v1


class Kind(StrEnum):
    """The place of a number in a body."""

    TS = "ts"
    """The envelope's time."""
    SINCE = "since"
    """A table's time, behind its name and before its rows."""
    ROW = "row"
    """The value of a row."""
    LISTED = "listed"
    """An observation in a row's list of them."""
    BUCKET = "bucket"
    """The count of a bucket in a row's object of counts by bucket."""
    SUM = "sum"
    """The sum behind these counts."""
    SAMPLE = "sample"
    """The value of a sample."""
    END = "end"
    """No number: the end of the body."""


class Header(NamedTuple):
    """The members of a table that define its series; each as JSON has it.

    Attributes:
        has_since: the table has a time of its own.
    """

    name: Any
    labels: tuple[Any, ...]
    type: Any
    has_since: bool


class Context(NamedTuple):
    """Where a number stands.

    Attributes:
        header: of the table whose row it is in.
        beginning: of a table that has no rows yet: its text, from its brace to the number.
        buckets: how many buckets of the row were stated before this number.
    """

    kind: Kind
    header: Header | None = None
    beginning: bytes = b""
    buckets: int = 0


class Said(NamedTuple):
    """The statement of a text.

    Attributes:
        context: of the number behind it.
        labelvalues: of the row that begins in the text.
        sample: the sample that begins in the text.
        bound: the upper bound of the bucket that the number counts.
    """

    context: Context
    labelvalues: Sequence[Any] | None = None
    sample: Mapping[str, Any] | None = None
    bound: str | None = None


class Author(NamedTuple):
    """The publisher that a head names."""

    source: str
    agent: str


AFTER_HEAD = Context(Kind.TS)
END = Said(Context(Kind.END))

_BEFORE: Mapping[Kind, bytes] = {
    Kind.TS: b'{"ts":1',
    Kind.ROW: b'{"tables":[{"rows":[[1',
    Kind.LISTED: b'{"tables":[{"rows":[[[1',
    Kind.BUCKET: b'{"tables":[{"rows":[[{"buckets":{"":1',
    Kind.SUM: b'{"tables":[{"rows":[[{"sum":1',
    Kind.SAMPLE: b'{"samples":[{"value":1',
}
_BEHIND = (b"1]]}]}", b"1]]]}]}", b"1}]}", b"1}}]]}]}", b"1}]]}]}")
"""Each closes other arrays and objects, so only one of them can be behind a text."""

_WHOLE: Mapping[Kind, bytes] = {
    Kind.ROW: b'{"rows":[[1]]}',
    Kind.LISTED: b'{"rows":[[[1]]]}',
    Kind.SUM: b'{"rows":[[{"sum":1}]]}',
    Kind.SAMPLE: b'{"value":1}',
}
"""The part before a text, if the text says nothing more of it. It is compared as JSON, where 1 isn't 1.0."""

_ENDS: Mapping[Kind, Sequence[bytes]] = {
    Kind.TS: (b'{"ts":1,"tables":[]}', b'{"ts":1,"samples":[]}'),
    Kind.SAMPLE: (b'{"samples":[{"value":1}]}',),
    **{kind: (b'{"tables":[%b]}' % _WHOLE[kind],) for kind in (Kind.ROW, Kind.LISTED, Kind.SUM)},
}
_CELLS: Mapping[bytes, Kind] = {b"1": Kind.ROW, b"[1]": Kind.LISTED}
_NOT_IN_HEAD = frozenset({"samples", "tables", "final"})
_SAMPLE: Sequence[set[str]] = ({"name", "labels", "value"}, {"name", "labels", "value", "type"})
_TABLE = {"name", "labels", "rows"}
_MOST_OPENED = 100
"""Arrays and objects that are begun: `orjson` writes no JSON that is nested deeper than 254 of them."""


def read_head(text: bytes) -> Author | None:
    """Read a body's beginning, up to the number of its time; None if the rest of the body may say more of the head."""
    try:
        document, other = orjson.loads(text + b"1}"), orjson.loads(text + b"2}")
        if type(document) is not dict or _NOT_IN_HEAD & document.keys():
            return None
        envelope = json_v1.of_document({**document, "samples": []})
    except (orjson.JSONDecodeError, EnvelopeError):
        return None
    # The number behind a head may be that of another member, and a head may have numbers of its own.
    is_time = (document.get("ts"), other.get("ts")) == (1, 2)
    return Author(envelope.source, envelope.agent) if is_time else None


def read_text(context: Context, text: bytes, *, is_last: bool) -> Said | None:
    """Read the text between two numbers, or behind the last one; None if it says anything unusual.

    Args:
        context: of the number before it.
        text: it has no number outside of strings.
        is_last: the body ends with it.
    """
    before = _BEFORE.get(context.kind) or b'{"tables":[%b1' % context.beginning
    document = _parse(before + text, (b"",) if is_last else _BEHIND)
    if type(document) is not dict:
        return None
    if is_last:
        return END if orjson.dumps(document) in _ENDS.get(context.kind, ()) else None
    if context.kind == Kind.TS and orjson.dumps(document.pop("ts", None)) != b"1":
        return None
    if document.keys() == {"samples"} and context.kind in {Kind.TS, Kind.SAMPLE}:
        return _read_sample(_last_of(document["samples"], _WHOLE.get(context.kind)))
    if document.keys() != {"tables"} or context.kind == Kind.SAMPLE:
        return None
    return _read_row(context, document["tables"]) or _read_table(context, document["tables"], text)


def _parse(begun: bytes, ends: Sequence[bytes]) -> Any:
    """Parse JSON with the first of these ends that makes it whole; None if it is nested too deep."""
    if begun.count(b"[") + begun.count(b"{") > _MOST_OPENED:
        return None
    for end in ends:
        try:
            return orjson.loads(begun + end)
        except orjson.JSONDecodeError:
            continue
    return None


def _last_of(listed: Any, first: bytes | None) -> Any:
    """Return the last one of a list that has nothing but it, behind `first` if that is given."""
    if type(listed) is not list or len(listed) != (1 if first is None else 2):
        return None
    return listed[-1] if first is None or orjson.dumps(listed[0]) == first else None


def _read_sample(sample: Any) -> Said | None:
    if type(sample) is not dict or sample.keys() not in _SAMPLE or orjson.dumps(sample["value"]) != b"1":
        return None
    return Said(Context(Kind.SAMPLE), sample=sample)


def _read_row(context: Context, tables: Any) -> Said | None:
    """Read a text that goes on with the row or the table of the number before it."""
    if type(tables) is not list or len(tables) != 1 or type(tables[0]) is not dict or tables[0].keys() != {"rows"}:
        return None
    rows = tables[0]["rows"]
    if context.kind in _WHOLE and type(rows) is list and len(rows) == 2:  # noqa: PLR2004 - the row before, and this one
        is_whole = orjson.dumps({"rows": rows[:1]}) == _WHOLE[context.kind]
        return _begin_row(context.header, rows[1]) if is_whole else None
    said = orjson.dumps(rows)
    if context.kind == Kind.LISTED and said == b"[[[1,1]]]":
        return Said(context)
    if context.kind == Kind.BUCKET:
        return _read_bucket(context, rows, said)
    return None


def _read_bucket(context: Context, rows: Any, said: bytes) -> Said | None:
    if said == b'[[{"buckets":{"":1},"sum":1}]]':
        return Said(context._replace(kind=Kind.SUM))
    match rows:
        case [[{"buckets": dict() as counts}]] if counts:
            *_, bound = counts
            if said == b'[[{"buckets":{"":1,%b:1}}]]' % orjson.dumps(bound):
                return Said(context._replace(buckets=context.buckets + 1), bound=bound)
    return None


def _read_table(context: Context, tables: Any, text: bytes) -> Said | None:
    """Read a text that begins a table, or its rows."""
    table = _last_of(tables, _WHOLE.get(context.kind))
    if type(table) is not dict or context.kind == Kind.BUCKET:
        return None
    has_since = "ts" in table
    if has_since and orjson.dumps(table.pop("ts")) != b"1":
        return None
    if has_since and context.kind != Kind.SINCE:
        return _begin_table(table, text)
    if table.keys() - {"type"} != _TABLE or type(table["labels"]) is not list:
        return None
    header = Header(table["name"], tuple(table["labels"]), table.get("type"), has_since)
    rows = table["rows"]
    return _begin_row(header, rows[0]) if type(rows) is list and len(rows) == 1 else None


def _begin_table(table: Mapping[str, Any], text: bytes) -> Said | None:
    """Read the beginning of a table with a time, which has no object in it."""
    is_begun = "name" in table and table.keys() <= {"name", "type", "labels"}
    if not is_begun or any(type(member) is dict for member in table.values()):
        return None
    beginning = text[text.rindex(b"{") :]
    return None if _parse(beginning, (b"1}",)) is None else Said(Context(Kind.SINCE, beginning=beginning))


def _begin_row(header: Header | None, row: Any) -> Said | None:
    if type(row) is not list or not row:
        return None
    *labelvalues, cell = row
    said = orjson.dumps(cell)
    if kind := _CELLS.get(said):
        return Said(Context(kind, header), labelvalues)
    match cell:
        case {"buckets": dict() as counts} if counts:
            bound, *_ = counts
            if said == b'{"buckets":{%b:1}}' % orjson.dumps(bound):
                return Said(Context(Kind.BUCKET, header, buckets=1), labelvalues, bound=bound)
    return None
