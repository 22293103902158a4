"""Content negotiation for a scrape: which exposition format, and gzip or not. Pure.

The rules are those of prometheus_client's `choose_encoder`, with the quality values of RFC 9110 (section 12.4.2)
honoured: the format of the highest quality wins, OpenMetrics before text at equal quality, and text 0.0.4 where nothing
fits, since a scraper that asks for something odd is served better by text than by 406.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Format(Enum):
    """An exposition format; the value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class _Range(NamedTuple):
    """One member of an Accept or Accept-Encoding list."""

    name: str
    quality: float
    version: str


_OFFERS = (
    (Format.OPENMETRICS, ("application/openmetrics-text",), ("", "1.0.0")),
    (Format.TEXT, ("text/plain", "text/*", "*/*"), ("", "0.0.4")),
)


def choose_format(accept: str) -> Format:
    """Choose the format for an Accept header; an empty header takes text."""
    ranges = list(_ranges(accept))
    offered = [(_best(ranges, names, versions), form) for form, names, versions in _OFFERS]
    quality, form = max(offered, key=lambda offer: offer[0])
    return form if quality > 0 else Format.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Return True if an Accept-Encoding header names gzip, or `*`, with a quality above 0."""
    qualities = {member.name: member.quality for member in _ranges(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _best(ranges: list[_Range], names: tuple[str, ...], versions: tuple[str, ...]) -> float:
    """Find the quality by the most specific name that the header has, as RFC 9110 ranks them."""
    for name in names:
        if matching := [member.quality for member in ranges if member.name == name and member.version in versions]:
            return max(matching)
    return 0.0


def _ranges(header: str) -> Iterator[_Range]:
    for member in header.split(","):
        name, *parameters = (part.strip().lower() for part in member.split(";"))
        values = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if name:
            yield _Range(name, _quality(values.get("q", "1")), values.get("version", "").strip('"'))


def _quality(text: str) -> float:
    """Parse a quality value; an invalid one is 0, which accepts nothing."""
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
