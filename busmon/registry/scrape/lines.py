"""Sample lines, as Prometheus' text format 0.0.4 and OpenMetrics 1.0 both have them.

A series' lines are one template filled in, which all series of its family with the same parts share: a fill costs less
than a call for each line. Lines are bytes, so that one character beyond ASCII doesn't make a whole scrape wide. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, repeat
from math import inf
from typing import NamedTuple

from busmon.wire.floats import go_float

_LABEL_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_EXPONENT_FROM = 1e6
"""Below it, Python's `repr` is Go's format, too."""


class SeriesPart(NamedTuple):
    """The part of a series that an entry of a value file is.

    Attributes:
        suffix: of the sample's name, after the family's; for example `_bucket`.
        bound: a bucket's upper bound; None for anything else.
    """

    suffix: str
    bound: float | None = None


class Layout:
    """The lines that a series has.

    Attributes:
        family: the name of the series' family.
        parts: what the lines are made of: buckets last, by their bounds; they are counted up when written.
        places: the position of each part in `parts`.
        is_line: whether there is one line, which states a value by itself.
    """

    __slots__ = (
        "_grown",
        "_has_buckets",
        "_labelled",
        "_template",
        "_uncounted",
        "family",
        "is_line",
        "parts",
        "places",
    )

    def __init__(self, family: str, parts: Iterable[SeriesPart], *, labelled: bool) -> None:
        self.parts = tuple(sorted(parts, key=_place))
        self.places = {part: place for place, part in enumerate(self.parts)}
        self.family = family
        self._labelled = labelled
        self._uncounted = sum(part.bound is None for part in self.parts)
        self._has_buckets = self._uncounted < len(self.parts)
        self.is_line = len(self.parts) == 1 and not self._has_buckets
        self._template = b"".join(self._lines())
        self._grown: dict[SeriesPart, Layout] = {}

    def grow(self, part: SeriesPart) -> "Layout":
        """Return the layout with a part more."""
        layout = self._grown.get(part)
        if layout is None:
            layout = self._grown[part] = Layout(self.family, (*self.parts, part), labelled=self._labelled)
        return layout

    def write_line(self, labels: bytes, value: float | None) -> bytes:
        """Return the line of the series with these labels, where the layout has one part, which isn't a bucket."""
        if value is None:
            return b""
        return self._template % (labels, value if -inf < value < _EXPONENT_FROM else _Verbatim(go_float(value)))

    def write(self, labels: bytes, values: Sequence[float | None]) -> bytes:
        """Return the lines of the series with these labels.

        Args:
            labels: as `label_text` has them.
            values: of the parts, in their order; a series that has none has no lines.
        """
        if values.count(None) == len(values):
            return b""
        known = [value or 0.0 for value in values]
        known[self._uncounted :] = accumulate(known[self._uncounted :])
        if self._has_buckets:
            known.append(known[-1])
        return self._template % tuple(chain.from_iterable(zip(repeat(labels), map(_show, known), strict=False)))

    def _lines(self) -> Iterator[bytes]:
        braced, before_le = ("{%b}", "{%b,") if self._labelled else ("%b", "{%b")
        for suffix, bound in self.parts:
            labels = braced if bound is None else f'{before_le}le="{go_float(bound)}"}}'
            yield f"{self.family}{suffix}{labels} %r\n".encode()
        if self._has_buckets:
            yield f"{self.family}_count{braced} %r\n".encode()


class _Verbatim(str):
    """Text that `%r` leaves as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def label_text(labels: Mapping[str, str]) -> bytes:
    """Write labels as a scrape has them between its braces, sorted by name."""
    items = sorted(labels.items())
    text = ",".join([f'{name}="{value}"' for name, value in items])
    if "\\" in text or "\n" in text or text.count('"') != 2 * len(items):
        text = ",".join([f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in items])
    return text.encode()


def quantile_lines(name: str, labels: bytes, quantiles: Mapping[float, float]) -> bytes:
    """Return a summary's lines of quantiles."""
    before = labels + b"," if labels else b""
    lines = [
        b'%b{%bquantile="%b"} %b\n' % (name.encode(), before, go_float(quantile).encode(), go_float(value).encode())
        for quantile, value in quantiles.items()
    ]
    return b"".join(lines)


def text_header(name: str, type_: str, help_: str) -> bytes:
    """Write what stands before a family's samples in the text format; a counter's name there has its `_total`."""
    exposed = f"{name}_total" if type_ == "counter" else name
    return f"# HELP {exposed} {help_.translate(_HELP_ESCAPES)}\n# TYPE {exposed} {type_}\n".encode()


def openmetrics_header(name: str, type_: str, help_: str) -> bytes:
    """Write what stands before a family's samples in OpenMetrics."""
    return f"# HELP {name} {help_.translate(_LABEL_ESCAPES)}\n# TYPE {name} {type_}\n".encode()


def _place(part: SeriesPart) -> tuple[bool, float, str]:
    return part.bound is not None, part.bound or 0.0, part.suffix


def _show(value: float) -> float | _Verbatim:
    return value if -inf < value < _EXPONENT_FROM else _Verbatim(go_float(value))
