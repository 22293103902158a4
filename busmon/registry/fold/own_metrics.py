"""Busmon's own metrics in one shard, and the series that busmon makes before a sample has them. One thread.

They change the open batch as samples do.
"""

from collections.abc import Sequence
from contextlib import suppress

from busmon.catalogue.family import Family
from busmon.errors import AdoptionError, RejectedError
from busmon.registry.admission.admission import ACTIVE_AGENTS, OWN_AGENT, Admission
from busmon.registry.fold import observing
from busmon.registry.fold.routes import Routes
from busmon.registry.fold.sender import CurrentSender
from busmon.registry.series.columns import Column
from busmon.registry.series.shares import NOBODY
from busmon.wire.json_v1 import UNKNOWN_AGENT


class OwnMetrics:
    """The metrics that busmon measures itself.

    Attributes:
        now: the time of the fold's last work, in seconds since the epoch.
    """

    def __init__(self, routes: Routes, admission: Admission, sender: CurrentSender) -> None:
        self._routes = routes
        self._admission = admission
        self.now = 0.0
        self._sender = sender

    def count(self, name: str, labelvalues: tuple[str, ...] = (), amount: float = 1) -> None:
        """Increment a counter that busmon measures."""
        with suppress(RejectedError):
            column, cell = self._find_or_make(name, labelvalues)
            column.increments[cell] += amount

    def observe(self, name: str, labelvalues: tuple[str, ...], values: Sequence[float]) -> None:
        """Observe values in a histogram that busmon measures."""
        group = self._routes.own(name)
        with suppress(RejectedError):
            observing.observe(group, self._find_or_make(name, labelvalues)[1], values)

    def set(self, name: str, labelvalues: tuple[str, ...], value: float, at: float, user: str | None = None) -> None:
        """Set a gauge of busmon's own, which no source holds; nothing is set where there is no place for it.

        One that tells of an agent takes its place from that agent's user.
        """
        self._sender.said = user, OWN_AGENT, ""
        with suppress(RejectedError):
            column, cell = self._find_or_make(name, labelvalues)
            column.shares.set(cell, NOBODY, value, at)

    def attend(self, source: str, agent: str, now: float, user: str | None = None) -> None:
        """Count a source that was heard among its agent's instances, unless these say themselves how many they are."""
        if agent == UNKNOWN_AGENT or not self._derives_agents():
            return
        self.now, self._sender.said = now, (user, OWN_AGENT, "")
        with suppress(RejectedError):
            column, cell = self._find_or_make(ACTIVE_AGENTS, (agent,))
            column.shares.derive(cell, source, 1.0, now)

    def expose_at_zero(self, family: Family) -> None:
        """Make the series of a family whose label values are all known, so that their first increase is seen.

        Not of one that was written with other labels, or can't be written as another occupies its name.
        """
        with suppress(AdoptionError):
            for labelvalues in family.list_bounded_series():
                group = self._routes.group(family)
                if (group.family.type, group.family.labelnames) == (family.type, family.labelnames):
                    with suppress(RejectedError):
                        self._admission.admit(group, labelvalues, OWN_AGENT, self.now)

    def _find_or_make(self, name: str, labelvalues: tuple[str, ...]) -> tuple[Column, int]:
        group = self._routes.own(name)
        return group.column, group.cells[self._admission.admit(group, labelvalues, OWN_AGENT, self.now)]

    def _derives_agents(self) -> bool:
        """Return whether live agents are counted by type; not where a catalogue has that metric in another form."""
        with suppress(LookupError, AdoptionError):
            group = self._routes.own(ACTIVE_AGENTS)
            return group.column.name == "gauge_sum" and len(group.family.labelnames) == 1
        return False
