"""A body as delivered → its plain bytes, within a limit: no decoder expands or reads more than it is allowed to.

Never raises anything but `EnvelopeError`. Pure.
"""

from collections.abc import Iterator

from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.wire.encoding import PLAIN_ENCODINGS, decompress

INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
"""Characters without a width: U+200B to U+200D, U+2060, and the byte order mark. An editor shows none of them."""

BLANK = f" \t\r\v\f\0\u00a0\u2007\u202f{INVISIBLE}"
"""Characters that stand around a line and never belong to it, the NUL behind a C device's body among them."""

_NO_INVISIBLE = str.maketrans("", "", INVISIBLE)


def plain(body: bytes, content_encoding: str | None, max_bytes: int) -> bytes:
    """Return the body without its compressions, in UTF-8 if a charset is stated.

    Args:
        body: the body as delivered.
        content_encoding: AMQP's property, and what `stated_encoding` adds to it.
        max_bytes: what a body may have, before and after decompression.

    Raises:
        EnvelopeError: `empty_body`, `too_large` or `content_encoding`.
    """
    if not body:
        raise EnvelopeError(BodyReason.EMPTY_BODY, "expected an envelope")
    if len(body) > max_bytes:
        raise EnvelopeError(BodyReason.TOO_LARGE, f"{len(body)} bytes; at most {max_bytes} are accepted")
    if content_encoding is None or content_encoding in PLAIN_ENCODINGS:
        return body
    return decompress(body, content_encoding, max_bytes)


def text(body: bytes, content_encoding: str | None, max_bytes: int) -> str:
    """Decode the body of a format of lines.

    Raises:
        EnvelopeError: as of `plain`, or `invalid_text`: it is not UTF-8.
    """
    try:
        return plain(body, content_encoding, max_bytes).decode()
    except UnicodeDecodeError as error:
        raise EnvelopeError(BodyReason.INVALID_TEXT, f"expected UTF-8: {error.reason} at byte {error.start}") from error


def lines(text: str) -> Iterator[str]:
    """Yield the lines of a text that aren't blank, without the blanks around each."""
    return filter(None, [line.strip(BLANK) for line in text.split("\n")])


def visible(name: str) -> str:
    """Remove the characters of a name that nobody sees, and the blanks around it."""
    return (name if name.isascii() else name.translate(_NO_INVISIBLE)).strip(BLANK)
