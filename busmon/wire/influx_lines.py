r"""The lines of a body of InfluxDB's line protocol.

A line ends at a line break outside of a quoted text: InfluxDB takes a raw line break within one, so whoever can write a
text must not be able to write a line. A quote opens a text only in a field's value; in a measurement, a tag or a key it
stands for itself. A text that is never closed takes the rest of the body with it, since nothing tells the lines in it
from those after it. Each character is looked at once. Pure.
"""

import re
from collections.abc import Iterator

from busmon.wire.body import BLANK

KEY = r"(?:[^\\,= \t\n]++|\\[^\n]?)++"
"""A key or a bare value; `\\` takes a character's meaning away."""

TEXT = r'"(?:[^"\\]++|\\[\s\S]?)*+'
"""A quoted text up to its closing quote."""

_HEAD = r"(?:[^\\ \n]++|\\[^\n]?)*+"
_VALUE = rf'(?:[^\\,"\n]++|\\[^\n]?|{TEXT}"?+)*+'
_LINE = re.compile(rf"{_HEAD}(?: (?:[^\\=\n]++|\\[^\n]?|={_VALUE})*+)?+")
_NO_LINE = re.compile(rf"[\n{re.escape(BLANK)}]*+")


def lines(text: str) -> Iterator[str]:
    """Yield the lines that are neither blank nor comments, without the blanks around each."""
    at, size = _line_start(text, 0), len(text)
    while at < size:
        end = text.find("\n", at)
        end = size if end < 0 else end
        if text[at] != "#":
            if text.find('"', at, end) >= 0:
                end = _end(text, at)
            yield text[at:end].rstrip(BLANK)
        at = _line_start(text, end)


def _line_start(text: str, at: int) -> int:
    found = _NO_LINE.match(text, at)
    return found.end() if found else at


def _end(text: str, at: int) -> int:
    found = _LINE.match(text, at)
    return found.end() if found else len(text)
