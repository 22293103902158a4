"""The confirmed totals of a simulation by series, which the audit compares with a scrape.

The file is one JSON object: `envelopes` and `samples`, how many there were; `is_confirmed`, false where some may be
missing; `series`, sample name → (labels, as JSON with sorted keys → total); `totals`, sample name → total over all
labels. Counters stand under their names, histograms and summaries under `<name>_count` and `<name>_sum`; gauges don't.
Plain data; one thread at a time.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import orjson

from busmon.catalogue import Catalogue
from busmon.catalogue.family import COUNTER, GAUGE

Series = dict[str, dict[str, float]]


@dataclass(slots=True)
class Totals:
    """Confirmed totals.

    Attributes:
        series: sample name to labels to total.
        envelopes: how many were confirmed, heartbeats included.
        samples: rows in them.
        is_confirmed: whether nothing is missing: all that was recorded was confirmed.
    """

    series: Series = field(default_factory=dict)
    envelopes: int = 0
    samples: int = 0
    is_confirmed: bool = True

    def add_body(self, catalogue: Catalogue, body: bytes) -> None:
        """Count what a confirmed body says."""
        self.envelopes += 1
        for table in orjson.loads(body)["tables"]:
            self.samples += len(table["rows"])
            family = catalogue.families[table["name"]]
            if family.type != GAUGE:
                for *labelvalues, cell in table["rows"]:
                    labels = _labels(tuple(table["labels"]), tuple(labelvalues))
                    for suffix, amount in _amounts(family.type, cell):
                        self._add(family.name + suffix, labels, amount)

    def merge(self, other: Self) -> None:
        """Add another part of the same simulation."""
        self.envelopes += other.envelopes
        self.samples += other.samples
        self.is_confirmed = self.is_confirmed and other.is_confirmed
        for name, by_labels in other.series.items():
            for labels, amount in by_labels.items():
                self._add(name, labels, amount)

    def totals(self) -> dict[str, float]:
        """Add up each sample name's total over all labels."""
        return {name: sum(by_labels.values()) for name, by_labels in sorted(self.series.items())}

    def document(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {**asdict(self), "totals": self.totals()}

    def write(self, path: Path) -> None:
        """Write the file that the module describes."""
        path.write_bytes(orjson.dumps(self.document(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read the totals that `document` returned."""
        return cls(**{each.name: document[each.name] for each in fields(cls)})

    def _add(self, name: str, labels: str, amount: float) -> None:
        by_labels = self.series.setdefault(name, {})
        by_labels[labels] = by_labels.get(labels, 0) + amount


@lru_cache(maxsize=4096)
def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return orjson.dumps(dict(zip(names, values, strict=True)), option=orjson.OPT_SORT_KEYS).decode()


def _amounts(type_: str, cell: Any) -> tuple[tuple[str, float], ...]:
    """Yield the amounts that a row's last cell adds, by suffix of the sample name."""
    if type_ == COUNTER:
        return (("", cell),)
    if isinstance(cell, Mapping):
        return ("_count", sum(cell["buckets"].values())), ("_sum", cell["sum"])
    return ("_count", len(cell)), ("_sum", sum(cell))
