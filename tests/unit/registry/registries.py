"""A registry directory in a test's hands: samples in, scrape out."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.budgets import UNBOUNDED, Budgets
from busmon.registry.admission.families import Families
from busmon.registry.ledger.source_record import Verdict
from busmon.registry.operator import removal
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.shard import Shard
from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import decode

CATALOGUE = Catalogue.load()
NOW = 1_763_794_800.0
MAX_BYTES = 1 << 20

Series = tuple[str, frozenset[tuple[str, str]]]


@contextmanager
def fresh_directory() -> Iterator[Path]:
    """A directory for one example of a property, where a fixture's would be shared by all of them."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def catalogue(directory: Path, text: str) -> Catalogue:
    """The built-in catalogue, and a file of the test's own."""
    path = directory / "own.toml"
    path.write_text(text)
    return Catalogue.load([path])


def envelope(
    *samples: Any,
    tables: Any = (),
    source: str = "s-1",
    agent: str = "tester",
    ts: float | None = None,
    final: bool | None = None,
) -> Envelope:
    """An envelope as the decoder gives it."""
    stated = {"source": source, "agent": agent, "ts": ts, "final": final}
    document = {"v": 1, **stated, "samples": samples, "tables": tables}
    return decode(orjson.dumps(document), None, None, MAX_BYTES)


class Registry:
    """One open shard of a directory; a context manager."""

    def __init__(  # noqa: PLR0913 - each test names what it is about, and nothing else
        self,
        directory: Path,
        number: int = 0,
        *,
        catalogue: Catalogue = CATALOGUE,
        max_adopted: int = 100,
        budgets: Budgets = UNBOUNDED,
        fsync: bool = False,
    ) -> None:
        self.directory = directory
        self.families = Families(directory, catalogue, max_adopted)
        self.shard = Shard.open(directory, number, self.families, fsync=fsync)
        self.shard.limit(budgets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shard.close()

    def fold(self, *samples: Any, now: float = NOW, **stated: Any) -> None:
        """Fold an envelope of these samples."""
        self.shard.fold.envelope(envelope(*samples, **stated), now)

    def deliver(self, message_id: str | None, *samples: Any, now: float = NOW, **stated: Any) -> Verdict:
        """Fold an envelope unless it was counted before, as a worker does."""
        opened = envelope(*samples, **stated)
        verdict = self.shard.ledger.admit(opened.source, message_id, now)
        if verdict is not Verdict.DUPLICATE:
            self.shard.fold.envelope(opened, now)
        return verdict

    def commit(self, now: float = NOW) -> None:
        """Commit the open batch."""
        self.shard.commit(now)

    def drop(self, name: str, labels: Mapping[str, str] = MappingProxyType({}), now: float = NOW) -> int:
        """Remove series."""
        return removal.drop(self.shard, name, labels, now)

    def tidy(self, now: float) -> int:
        """Remove the series whose label values have given their places back."""
        return removal.tidy(self.shard, now)

    def text(self, *families: str) -> str:
        """Scrape these families, without headers; all but busmon's own by default."""
        return scrape(self.directory, *families)

    def rejected(self) -> dict[str, float]:
        """How many samples were rejected, by reason, as of the last commit."""
        return Exposition(self.directory).collect().by_label("busmon_samples_rejected_total", "reason")


def scrape(directory: Path, *families: str) -> str:
    """The sample lines of a scrape, of some families or of all but busmon's own."""
    wanted = tuple(families) or None
    lines = Exposition(directory).text().decode().splitlines(keepends=True)
    return "".join(
        line
        for line in lines
        if not line.startswith("#") and (line.startswith(wanted) if wanted else not line.startswith("busmon_"))
    )


def stock(directory: Path) -> dict[Series, float]:
    """Scrape the directory with prometheus_client's own collector."""
    metrics = MultiProcessCollector(CollectorRegistry(), str(directory)).collect()  # type: ignore[no-untyped-call]
    return {series(sample.name, **sample.labels): sample.value for metric in metrics for sample in metric.samples}


def parsed(text: bytes | str) -> dict[Series, float]:
    """Every sample of a scrape; a duplicate fails."""
    samples: dict[Series, float] = {}
    for family in text_string_to_metric_families(text if isinstance(text, str) else text.decode()):
        for sample in family.samples:
            series = (sample.name, frozenset(sample.labels.items()))
            assert series not in samples, f"{series} is exposed twice"
            samples[series] = sample.value
    return samples


def series(metric: str, /, **labels: str) -> Series:
    """The key of a sample in `parsed`."""
    return metric, frozenset(labels.items())


def without_own(samples: Mapping[Series, float]) -> dict[Series, float]:
    """Leave busmon's own families out."""
    return {key: value for key, value in samples.items() if not key[0].startswith("busmon_")}


def counted(text: bytes | str) -> dict[Series, float]:
    """Leave series of 0 out: a new series may stand at 0 before the batch that first counts it is marked."""
    return {key: value for key, value in parsed(text).items() if value}
