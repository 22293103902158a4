"""How `busmon quarantine` shows bodies. Pure.

Bodies and headers are strangers' bytes: nothing of them reaches the terminal but printable characters.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from busmon.bus.operator.quarantined import Quarantined
from busmon.printable import ELLIPSIS, align, escape

HEADINGS = ("ID", "QUARANTINED (UTC)", "REASON", "AGENT", "ROUTING KEY", "BYTES")
MAX_COLUMN = 48
"""Characters of a cell in `list`: an ID or a routing key may have 255, and would push every column aside."""

_SHORTENED = f"a cell that ends in {ELLIPSIS} is cut; `busmon quarantine list --json` has all of it"
BYTES_A_LINE = 16


class Row(NamedTuple):
    """A body's row in `list`; times in seconds since the epoch, size in bytes."""

    id: str
    quarantined_at: float | None
    reason: str
    detail: str
    agent: str
    routing_key: str
    size: int


def row(body: Quarantined) -> Row:
    """Return the row of a body, without its contents."""
    cause = body.cause
    return Row(
        body.identity,
        cause.quarantined_at,
        cause.reason,
        cause.detail,
        cause.agent,
        cause.routing_key,
        len(body.body),
    )


def table(rows: Sequence[Row], total: int) -> str:
    """Format a line for each body, and their number."""
    if not total:
        return "the quarantine is empty"
    cells = [_cells(row) for row in rows]
    is_cut = any(len(escape(cell)) > MAX_COLUMN for row in cells for cell in row)
    end = [f"{len(rows)} of {total}", *([_SHORTENED] if is_cut else [])]
    return "\n".join([*align([HEADINGS, *cells], MAX_COLUMN), *end])


def _cells(row: Row) -> tuple[str, ...]:
    return row.id, _moment(row.quarantined_at), row.reason, row.agent, row.routing_key, str(row.size)


def page(body: Quarantined, max_bytes: int) -> str:
    """Describe all that is known of a body, and show its beginning."""
    said = row(body)
    properties = {
        name: value for name, value in vars(body.properties).items() if value is not None and name != "headers"
    }
    facts = [
        ("id", said.id),
        ("quarantined", _moment(said.quarantined_at)),
        ("reason", said.reason),
        ("detail", said.detail),
        ("agent", said.agent),
        ("routing key", said.routing_key),
        ("size", f"{said.size} bytes"),
        *sorted(properties.items()),
        *((f"header {name}", value) for name, value in sorted((body.properties.headers or {}).items())),
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{escape(name):<{width}}  {escape(str(value))}".rstrip() for name, value in facts]
    rest = len(body.body) - max_bytes
    end = [f"… and {rest} bytes more"] if rest > 0 else []
    return "\n".join([*lines, "", *_show(body.body[:max_bytes]), *end])


def _show(content: bytes) -> Iterable[str]:
    """Show text as it is, whose last character may be cut off, and other content as hexadecimal digits."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return _hexadecimal(content)
    lines = text.split("\n")
    return lines if all(line.replace("\t", "").isprintable() for line in lines) else _hexadecimal(content)


def _hexadecimal(content: bytes) -> Iterator[str]:
    for start in range(0, len(content), BYTES_A_LINE):
        part = content[start : start + BYTES_A_LINE]
        text = "".join(chr(byte) if chr(byte).isascii() and chr(byte).isprintable() else "." for byte in part)
        yield f"{start:08x}  {part.hex(' '):<{BYTES_A_LINE * 3}} {text}"


def _moment(seconds: float | None) -> str:
    try:
        return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return ""
