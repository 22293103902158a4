"""The rules for a family's scrape beyond the files' numbers: how long its series stay, and its quantiles.

Follows the families that the fleet's processes write, as they are written. A `families.jsonl` that isn't as busmon
writes it leaves the rules as they were, and is named. One thread.
"""

from pathlib import Path

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import RegistryError
from busmon.registry.admission.families import FILE_NAME, Families
from busmon.registry.series.columns import column_of


class FollowedFamilies:
    """The rules by family, its name without a counter's `_total`.

    Attributes:
        ttls: how long after its last update a series is shown, in seconds; only of families that have a limit.
        timed: the columns that hold series of those families.
        quantiles: of summaries that have some.
        skipped: the file of families with the reason, if it can't be read.
    """

    def __init__(self, registry_dir: Path, catalogue: Catalogue | None) -> None:
        self.ttls: dict[str, float] = {}
        self.timed: set[str] = set()
        self.quantiles: dict[str, tuple[float, ...]] = {}
        self.skipped: dict[str, str] = {}
        self._registry_dir = registry_dir
        self._catalogue = catalogue
        self._families: Families | None = None
        self._generation: int | None = None

    def follow(self) -> None:
        """Follow what is written now; without a catalogue there are no rules."""
        if self._catalogue is None:
            return
        self.skipped = {}
        try:
            if self._families is None:
                self._families = Families(self._registry_dir, self._catalogue, max_adopted=0)
            self._families.refresh()
        except (RegistryError, OSError) as error:
            self.skipped[FILE_NAME] = str(error)
        if self._families is not None and self._generation != self._families.generation:
            self._generation = self._families.generation
            families = list(map(self._families.restate, self._families.frozen()))
            self.ttls = {family.metric_name: family.ttl_seconds for family in families if family.ttl_seconds}
            self.timed = {column_of(family) for family in families if family.ttl_seconds}
            self.quantiles = {family.metric_name: family.quantiles for family in families if family.quantiles}
