"""The lifetimes of series in the scrape: a series that is silent for longer than its family's TTL hides.

Hiding resets nothing. A series without any known time never hides: prometheus_client's own writers state none. What is
due is known in advance, so a collection in which nothing is costs nothing, however many series there are. One thread.
"""

from collections.abc import Mapping
from math import inf

from busmon.registry.scrape.merged import MergedFamily, MergedSeries


class Lifetimes:
    """The times at which the series of each family hide."""

    def __init__(self) -> None:
        self._due: dict[MergedFamily, tuple[float, float]] = {}

    def hide(self, families: Mapping[str, MergedFamily], ttls: Mapping[str, float], now: float) -> None:
        """Hide the series that are due, and show the updated ones; both become stale.

        Args:
            families: by name.
            ttls: in seconds, by the family's name.
            now: seconds since the epoch.
        """
        for name, ttl in ttls.items():
            if family := families.get(name):
                self._hide(family, ttl, now)

    def _hide(self, family: MergedFamily, ttl: float, now: float) -> None:
        known_ttl, due = self._due.get(family, (ttl, 0.0))
        whole = now >= due or ttl != known_ttl
        earliest = inf if whole else due
        for series in list(family.series.values() if whole else family.stale):
            self._judge(series, ttl, now)
            if series.updated and not series.hidden:
                earliest = min(earliest, series.updated + ttl)
        self._due[family] = ttl, earliest

    @staticmethod
    def _judge(series: MergedSeries, ttl: float, now: float) -> None:
        hidden = 0 < series.updated < now - ttl
        if hidden != series.hidden:
            series.hidden = hidden
            series.family.hidden += 1 if hidden else -1
            series.family.stale.add(series)
