"""A body as delivered → its plain bytes, within a limit: no decoder expands or reads more than it is allowed to.

Never raises anything but `EnvelopeError`. Pure.
"""

import gzip
import io
import zlib
from collections.abc import Iterator

from busmon.errors import EnvelopeError

_GZIP = 31
"""zlib's window bits for a gzip header and 32 KiB of history."""

INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
"""Characters without a width: U+200B to U+200D, U+2060, and the byte order mark. An editor shows none of them."""

BLANK = f" \t\r\v\f\0\u00a0\u2007\u202f{INVISIBLE}"
"""Characters that stand around a line and never belong to it, the NUL behind a C device's body among them."""

_NO_INVISIBLE = str.maketrans("", "", INVISIBLE)


def plain(body: bytes, content_encoding: str | None, max_bytes: int) -> bytes:
    """The body without its compression.

    Args:
        body: the body as delivered.
        content_encoding: AMQP's property; None or `gzip`.
        max_bytes: what a body may have, before and after decompression.

    Raises:
        EnvelopeError: `empty_body`, `too_large` or `content_encoding`.
    """
    if not body:
        raise EnvelopeError("empty_body", "expected an envelope")
    if len(body) > max_bytes:
        raise EnvelopeError("too_large", f"{len(body)} bytes; at most {max_bytes} are accepted")
    encoding = (content_encoding or "").lower()
    if encoding in {"", "identity"}:
        return body
    if encoding != "gzip":
        raise EnvelopeError("content_encoding", f"expected gzip or none, got {encoding[:80]!r}")
    return _expanded(body, max_bytes)


def text(body: bytes, content_encoding: str | None, max_bytes: int) -> str:
    """The body of a format of lines.

    Raises:
        EnvelopeError: as of `plain`, or `invalid_text`: it is not UTF-8.
    """
    try:
        return plain(body, content_encoding, max_bytes).decode()
    except UnicodeDecodeError as error:
        raise EnvelopeError("invalid_text", f"expected UTF-8: {error.reason} at byte {error.start}") from error


def lines(text: str) -> Iterator[str]:
    """Yield the lines of a text that aren't blank, without the blanks around each."""
    return filter(None, [line.strip(BLANK) for line in text.split("\n")])


def visible(name: str) -> str:
    """Remove the characters of a name that nobody sees, and the blanks around it."""
    return (name if name.isascii() else name.translate(_NO_INVISIBLE)).strip(BLANK)


def _expanded(body: bytes, max_bytes: int) -> bytes:
    stream = zlib.decompressobj(_GZIP)
    try:
        expanded = stream.decompress(body, max_bytes + 1)
        if stream.unused_data:
            expanded = _members(body, max_bytes)
    except (zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise EnvelopeError("content_encoding", f"not gzip: {error}") from error
    if len(expanded) > max_bytes:
        raise EnvelopeError("too_large", f"it expands to more than the {max_bytes} bytes that are accepted")
    if not stream.eof:
        raise EnvelopeError("content_encoding", "the gzip stream is cut off")
    return expanded


def _members(body: bytes, max_bytes: int) -> bytes:
    """All members of a gzip stream (RFC 1952, 2.2); for one alone, zlib takes a hundredth of the time."""
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
        return stream.read(max_bytes + 1)
