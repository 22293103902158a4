"""Figures of one collection. Plain look-ups for a few families; a scrape doesn't go this way."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from busmon.catalogue.family import HISTOGRAM
from busmon.registry.scrape.lines import SeriesPart
from busmon.registry.scrape.merged import MergedColumn, MergedFamily

_LABEL = re.compile(r'([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """The merged rows of a registry directory.

    Attributes:
        families: by name.
        columns: by name.
    """

    families: Mapping[str, MergedFamily]
    columns: Mapping[str, MergedColumn]

    def value(self, sample_name: str, **labels: str) -> float:
        """Return the sum of all series of an exposed sample name that have these labels; 0.0 where there is none."""
        return sum(value for _, value in self._samples(sample_name, labels))

    def by_label(self, sample_name: str, label: str) -> dict[str, float]:
        """Return the sums of an exposed sample name's series by one label's values."""
        sums: dict[str, float] = {}
        for labels, value in self._samples(sample_name, {}):
            sums[labels.get(label, "")] = sums.get(labels.get(label, ""), 0.0) + value
        return sums

    def histograms(self, family_name: str, label: str) -> dict[str, list[tuple[float, float]]]:
        """Return upper bounds with cumulative counts, ascending, by a label's values."""
        counts: dict[str, dict[float, float]] = {}
        for labels, part, value in self._rows(family_name, {}):
            if part.bound is not None:
                of_value = counts.setdefault(labels.get(label, ""), {})
                of_value[part.bound] = of_value.get(part.bound, 0.0) + value
        return {value: _cumulative(of_value) for value, of_value in counts.items()}

    def _samples(self, sample_name: str, wanted: Mapping[str, str]) -> Iterator[tuple[dict[str, str], float]]:
        """Yield labels and values of one exposed name; a histogram's `_count` is all of its buckets."""
        name, _, suffix = sample_name.rpartition("_")
        name = sample_name if sample_name in self.families else name
        family = self.families.get(name)
        counted = family is not None and family.type == HISTOGRAM and suffix == "count"
        for labels, part, value in self._rows(name, wanted):
            if (counted and part.bound is not None) or name + part.suffix == sample_name:
                yield labels, value

    def _rows(self, family_name: str, wanted: Mapping[str, str]) -> Iterator[tuple[dict[str, str], SeriesPart, float]]:
        family = self.families.get(family_name)
        if family is None:
            return
        values = self.columns[family.column].values
        for series in family.series.values():
            labels = _labels(series.labels)
            if wanted.items() <= labels.items():
                for part, row in zip(series.layout.parts, series.rows, strict=True):
                    if (value := values[row]) is not None:
                        yield labels, part, value


def _cumulative(counts: Mapping[float, float]) -> list[tuple[float, float]]:
    bounds = sorted(counts)
    return list(zip(bounds, accumulate(counts[bound] for bound in bounds), strict=True))


def _labels(text: bytes) -> dict[str, str]:
    """Return the labels that `label_text` wrote."""
    return {name: _ESCAPED.sub(_unescape, value) for name, value in _LABEL.findall(text.decode())}


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
