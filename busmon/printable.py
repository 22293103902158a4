"""Text of strangers on its way to a terminal: nothing of it moves a cursor, sets a colour or breaks a line. Pure."""

from collections.abc import Iterator, Sequence

ELLIPSIS = "…"


def printable(text: str) -> str:
    """Replace each unprintable character with U+FFFD."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def escape(text: str) -> str:
    """Write each unprintable character as an escape of its code, so that a reader sees which one it is."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def escape_json(document: str) -> str:
    """Write each unprintable character of a JSON document in one line as JSON escapes it; the values stay the same."""
    if document.isprintable():
        return document
    return "".join(char if char.isprintable() else _escape_in_json(char) for char in document)


def _escape_in_json(char: str) -> str:
    """Write a character as its UTF-16 code units, as JSON has no other escape for it."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def shorten(text: str, width: int) -> str:
    """Cut a text to so many characters; the last of them then says that there is more."""
    return text if len(text) <= width else text[: width - 1] + ELLIPSIS


def align(rows: Sequence[Sequence[str]], max_width: int) -> Iterator[str]:
    """Yield a line for each row of a table, its cells escaped and in columns.

    Args:
        rows: of the same number of cells.
        max_width: the characters of the widest cell; a longer one is cut.
    """
    shown = [[shorten(escape(cell), max_width) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
