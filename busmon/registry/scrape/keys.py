"""Keys of value files, as prometheus_client writes them: parsed once each, into what a scrape needs of them.

The content of a file may be foreign or damaged; a key that would spoil a scrape is refused here, by `ValueError`,
so that nothing behind has to doubt a name. Names are checked once for each shape of key. One thread.
"""

from collections.abc import Mapping
from math import isnan
from typing import Any

import orjson

from busmon.catalogue import naming
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY
from busmon.registry.scrape.lines import SeriesPart, label_text

_SAMPLES: Mapping[str, tuple[str, ...]] = {
    COUNTER: ("_total",),
    GAUGE: ("",),
    HISTOGRAM: ("_bucket", "_sum"),
    SUMMARY: ("_count", "_sum"),
}
"""What prometheus_client's multiprocess files have of each type, by what follows the family's name."""


class KeyParser:
    """The parser of keys, with the shapes that are known to be sound and the parts that they name."""

    def __init__(self) -> None:
        self._suffixes: dict[tuple[str, ...], str] = {}
        self._parts: dict[tuple[str, str | None], SeriesPart] = {}

    def parse(self, type_: str, key: bytes, pid: str) -> tuple[str, SeriesPart, bytes, str]:
        """Parse a key in a file of this type: the family, the part of a series, the labels as exposed, the help.

        The family is without a counter's `_total`, the labels are without a bucket's `le`; `pid` becomes a label unless
        it is empty.

        Raises:
            ValueError: it has another form, or names that would spoil the whole scrape.
        """
        parts: Any = orjson.loads(key)
        if not isinstance(parts, list) or len(parts) != 4:  # noqa: PLR2004 - family, sample, labels, help
            raise ValueError("it isn't prometheus_client's")
        family, sample, labels, help_ = parts
        try:
            "".join((help_, *labels.values()))  # the quickest look at whether all are text
            suffix = self._suffixes[type_, family, sample, *labels]
        except KeyError:
            suffix = self._check(type_, family, sample, labels)
        except (AttributeError, TypeError) as error:
            raise ValueError("it isn't prometheus_client's") from error
        bound = labels.pop("le", "") if suffix == "_bucket" else None
        part = self._parts.get((suffix, bound)) or self._part(suffix, bound)
        if pid:
            labels["pid"] = pid
        return family, part, label_text(labels), help_

    def _check(self, type_: str, family: Any, sample: Any, labels: Mapping[str, Any]) -> str:
        if not isinstance(family, str) or not naming.EXPOSED_NAME.fullmatch(family):
            raise ValueError("its metric's name is no name")
        suffixes = [suffix for suffix in _SAMPLES.get(type_, ()) if family + suffix == sample]
        if not suffixes:
            raise ValueError(f"{sample!r} is no name of a {type_}")
        if not all(map(naming.LABEL_NAME.fullmatch, labels)):
            raise ValueError("a label's name is no name")
        self._suffixes[type_, family, sample, *labels] = suffixes[0]
        return suffixes[0]

    def _part(self, suffix: str, le: Any) -> SeriesPart:
        if le is None:
            return self._parts.setdefault((suffix, None), SeriesPart(suffix))
        if not isinstance(le, str) or isnan(bound := float(le or "nan")):
            raise ValueError("its 'le' is no number")
        return self._parts.setdefault((suffix, le), SeriesPart(suffix, bound))
