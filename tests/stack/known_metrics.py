"""The known series: the catalogue's, the exporter's own, the recorded ones, and those of the other programs.

The lists under known/ were taken from the programs themselves, as Debian packages them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from busmon.catalogue import Catalogue, Family

LISTS = Path(__file__).with_name("known")
TARGET_LABELS = frozenset({"job", "instance", "registry"})
SCRAPE_SECONDS = {"busmon": 5.0, "rabbitmq": 5.0}
OTHERS_SCRAPE_SECONDS = 15.0

_PARTS = {
    "counter": {"": "counter"},
    "gauge": {"": "gauge"},
    "histogram": {"_bucket": "counter", "_sum": "counter", "_count": "counter"},
    "summary": {"": "quantile", "_sum": "counter", "_count": "counter"},
}
_PART_LABELS = {"_bucket": {"le"}}


@dataclass(frozen=True, slots=True)
class Series:
    """All series of one name.

    Attributes:
        kind: `counter`, `gauge`, `quantile`, or `unknown` where its program doesn't say.
        labels: that they may have, the target's included.
        every_seconds: a new sample comes that often.
    """

    kind: str
    labels: frozenset[str]
    every_seconds: float


def known() -> dict[str, Series]:
    """Every series by name, but for the recorded ones."""
    series = dict(_of_catalogue()) | dict(_of_prometheus())
    for path in LISTS.glob("*.txt"):
        series |= _of_list(path)
    return series


def _of_catalogue() -> Iterator[tuple[str, Series]]:
    for family in Catalogue.load().families.values():
        for suffix, kind in _PARTS[family.type].items():
            labels = TARGET_LABELS | set(family.labelnames) | _more_labels(family, suffix)
            yield family.name + suffix, Series(kind, labels, SCRAPE_SECONDS["busmon"])


def _more_labels(family: Family, suffix: str) -> set[str]:
    if family.type == "summary" and not suffix:
        return {"quantile"}
    return _PART_LABELS.get(suffix, set())


def _of_prometheus() -> Iterator[tuple[str, Series]]:
    yield "up", Series("gauge", TARGET_LABELS, OTHERS_SCRAPE_SECONDS)
    yield "scrape_duration_seconds", Series("gauge", TARGET_LABELS, OTHERS_SCRAPE_SECONDS)
    yield "scrape_samples_scraped", Series("gauge", TARGET_LABELS, OTHERS_SCRAPE_SECONDS)


def _of_list(path: Path) -> Mapping[str, Series]:
    rows = [line.split(" ") for line in path.read_text().splitlines()]
    every = SCRAPE_SECONDS.get(
        path.stem, SCRAPE_SECONDS["busmon"] if path.stem == "exporter" else OTHERS_SCRAPE_SECONDS
    )
    return {
        name: Series(_kind(name, type_), TARGET_LABELS | set(filter(None, labels.split(","))), every)
        for name, type_, labels in ((*row, "")[:3] for row in rows)
    }


def _kind(name: str, type_: str) -> str:
    if type_ in ("histogram", "summary"):
        return "counter" if name.endswith(("_bucket", "_sum", "_count")) else "quantile"
    return type_
