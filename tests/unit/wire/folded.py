"""The scrape after bodies of some format."""

from pathlib import Path
from typing import Any

from busmon.catalogue.catalogue import Catalogue
from busmon.wire.arrival import Arrival
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import CATALOGUE, NOW, Registry, parsed, series


class Folded:
    """A registry and the decoder of one format."""

    def __init__(self, directory: Path, format_: str, *, catalogue: Catalogue = CATALOGUE) -> None:
        self._format = format_
        self._registry = Registry(directory, catalogue=catalogue)

    def take(self, body: bytes, *, now: float = NOW, **properties: Any) -> None:
        """Decode a body, fold it and commit."""
        arrival = Arrival(body, properties.pop("content_type", None), None, 1 << 20, **properties)
        self._registry.shard.fold.envelope(DECODERS[self._format](arrival), now)
        self._registry.commit(now)

    def lose(self, body: bytes) -> None:
        """Decode a body and fold it into a batch that is rolled back."""
        self._registry.shard.fold.envelope(DECODERS[self._format](Arrival(body, None, None, 1 << 20)), NOW)
        self._registry.shard.rollback()

    def value(self, name: str, **labels: str) -> float | None:
        """One sample of a scrape; None where it isn't there."""
        return parsed(self._registry.text("")).get(series(name, **labels))

    def rejected(self) -> dict[str, float]:
        """How many samples were rejected, by reason."""
        return self._registry.rejected()

    def confused(self) -> set[str]:
        """The names that two live sources have."""
        return self._registry.shard.fold.streams.confused

    def close(self) -> None:
        """Close the shard."""
        self._registry.shard.close()
