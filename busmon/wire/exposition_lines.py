"""A line of Prometheus' text exposition (0.0.4, 1.0.0) or OpenMetrics: a sample, or the type of a family.

Takes what prometheus_client's parsers take, and by them is tested: blanks around every token, quoted names in UTF-8,
a comma behind the last label, exemplars. Each pattern is possessive, so that a line is read in one pass, however long
and odd it is. Pure.
"""

import re
from typing import NamedTuple

from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.wire.arrival import MAX_METRIC_CHARACTERS
from busmon.wire.body import BLANK

EXPECTED = 'expected NAME{LABEL="…"} VALUE'

_B = f"[{re.escape(BLANK)}]"
_WORD = f"[^{re.escape(BLANK)}]++"
_NUMBER = r"[-+.0-9a-zA-Z]++"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_TEXT = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
_IN_BRACES = rf'(?:[^"{{}}]++|"{_TEXT}")*+'
_EXEMPLAR = rf"{_B}++#{_B}*+\{{{_IN_BRACES}\}}{_B}.*+"

_SAMPLE = re.compile(
    rf"({_NAME})?+(?>{_B}*+\{{({_IN_BRACES})\}}{_B}*+|{_B}++)({_NUMBER})(?:{_B}++({_NUMBER}))?+(?:{_EXEMPLAR})?+",
    re.DOTALL,
)
_LABEL = re.compile(
    rf'{_B}*+(?:([a-zA-Z_][a-zA-Z0-9_]*+)|"({_TEXT})"){_B}*+(?:={_B}*+"({_TEXT})"{_B}*+)?+(?:,{_B}*+|$)', re.DOTALL
)
_TYPE = re.compile(rf'#{_B}*+TYPE{_B}++(?:"({_TEXT})"|({_WORD})){_B}++({_WORD})', re.DOTALL)
_IS_TYPE = re.compile(rf"#{_B}*+TYPE(?:{_B}|$)")
_ESCAPE = re.compile(r"\\[\\\"n]")
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Sample(NamedTuple):
    """A line that states a value.

    Attributes:
        name: as the line has it, a quoted one included.
        labels: in the line's order.
        time: in the format's unit; None where the line has none.
    """

    name: str
    labels: dict[str, str]
    value: float
    time: float | None


def read_sample(line: str) -> Sample:
    """Read a line other than a comment.

    Raises:
        RejectedError: `invalid_exposition`: it isn't of the format.
    """
    found = _SAMPLE.fullmatch(line)
    if found is None:
        raise RejectedError(SampleReason.INVALID_EXPOSITION, EXPECTED)
    name, said, value, time = found.groups()
    labels = {} if said is None else _labels(said)
    quoted = labels.pop("", "")
    if bool(name) == bool(quoted):
        raise RejectedError(
            SampleReason.INVALID_EXPOSITION, "a sample has one name, before the braces or quoted in them"
        )
    return Sample(name or quoted, labels, _number(value), None if time is None else _number(time))


def read_type(line: str) -> tuple[str, str] | None:
    """Read a comment: the name of a family and its type in small letters, or None.

    Raises:
        RejectedError: `invalid_exposition`: it begins as a TYPE and isn't one.
    """
    if not _IS_TYPE.match(line):
        return None
    found = _TYPE.fullmatch(line)
    if found is None:
        raise RejectedError(SampleReason.INVALID_EXPOSITION, "expected # TYPE NAME TYPE")
    quoted, name, type_ = found.groups()
    return name or _unescape(quoted), type_.lower()


def name_in(line: str) -> str:
    """Give the name that a faulty line begins with, cut to what is too long still; or nothing."""
    found = re.match(_NAME, line)
    return found[0][: MAX_METRIC_CHARACTERS + 1] if found else ""


def _labels(said: str) -> dict[str, str]:
    """Read the labels within braces. A quoted name without a value is the metric's, and comes under the empty name."""
    labels: dict[str, str] = {}
    at, end = 0, len(said.rstrip(BLANK))
    while at < end:
        label = _LABEL.match(said, at)
        if label is None:
            raise RejectedError(
                SampleReason.INVALID_EXPOSITION, 'expected LABEL="VALUE" within the braces, with commas between'
            )
        bare, quoted, value = label.groups()
        name = bare or _unescape(quoted)
        if not name or (value is None and bare):
            raise RejectedError(SampleReason.INVALID_EXPOSITION, "a label has a name and a value")
        if value is None:
            name, value = "", quoted
        if name in labels:
            raise RejectedError(SampleReason.INVALID_EXPOSITION, "a label's name stands twice")
        labels[name] = _unescape(value)
        at = label.end()
    return labels


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda escape: _ESCAPES[escape[0]], text) if "\\" in text else text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RejectedError(SampleReason.INVALID_EXPOSITION, "the value and the time are numbers") from None
