"""The lifetimes of series in the scrape: a series that is silent for longer than its family's TTL hides.

Hiding resets nothing. A series without any known time never hides: prometheus_client's own writers state none. What is
due is known in advance, so a collection in which nothing is costs nothing, however many series there are. One thread.
"""

from collections.abc import Mapping
from math import inf

from busmon.registry.scrape.merged import MergedFamily, MergedSeries


def hide(families: Mapping[str, MergedFamily], ttls: Mapping[str, float], now: float) -> None:
    """Hide the series that are due, and show the updated ones; both become stale.

    Args:
        families: by name.
        ttls: in seconds, by the family's name.
        now: seconds since the epoch.
    """
    for name, ttl in ttls.items():
        if family := families.get(name):
            _hide(family, ttl, now)


def _hide(family: MergedFamily, ttl: float, now: float) -> None:
    known_ttl, due = family.hides or (ttl, 0.0)
    whole = now >= due or ttl != known_ttl
    earliest = inf if whole else due
    for series in list(family.series.values() if whole else family.stale):
        _judge(family, series, ttl, now)
        if series.updated and not series.hidden:
            earliest = min(earliest, series.updated + ttl)
    family.hides = ttl, earliest


def _judge(family: MergedFamily, series: MergedSeries, ttl: float, now: float) -> None:
    hidden = 0 < series.updated < now - ttl
    if hidden != series.hidden:
        series.hidden = hidden
        family.hidden += 1 if hidden else -1
        family.stale.add(series)
