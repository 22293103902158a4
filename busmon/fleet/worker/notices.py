"""The log lines about metric families that are refused, or near the end of their budget. One thread."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from busmon.fleet.worker.paced_log import PacedLog
from busmon.registry.admission.families import MAX_NAMED, Families

if TYPE_CHECKING:
    from busmon.registry.admission.principal import Principal

NEARLY_SPENT = 0.8
"""The share of the budget of uncatalogued metrics from which on a warning is logged."""

_log = structlog.get_logger(__name__)


class FamilyNotices:
    """The notices of one worker.

    Args:
        families: the fleet's.
        paced_log: takes the lines that publishers cause.
    """

    def __init__(self, families: Families, paced_log: PacedLog) -> None:
        self._families = families
        self._paced_log = paced_log
        self._named: set[Principal] = set()
        self._is_nearly_spent = False

    def name_refused(self, refused: Iterable[str]) -> None:
        """Log the families whose change in the catalogue has no effect."""
        for name in refused:
            advice = f"`busmon registry drop {name}` removes its series, and then the change counts"
            _log.warning(
                "worker.family_change_refused",
                family=name,
                because="it has series of another definition",
                next=advice,
            )

    def name_unadopted(self) -> None:
        """Log metrics that aren't adopted, once for each principal while few are named, and a nearly spent budget."""
        for principal, detail in self._families.unadopted.items():
            if principal not in self._named:
                self._name(principal, detail)
        self._families.unadopted.clear()
        used, budget = len(self._families.owners), self._families.max_adopted
        was_nearly_spent, self._is_nearly_spent = self._is_nearly_spent, used > 0 and used >= NEARLY_SPENT * budget
        if self._is_nearly_spent and not was_nearly_spent:
            (most, count), *_ = self._families.count_held().most_common(1)
            advice = f"`busmon registry drop --agent {most.agent} --dry-run` shows what it took"
            _log.warning(
                "worker.metrics_nearly_spent", used=used, budget=budget, most=str(most), its_metrics=count, next=advice
            )

    def _name(self, principal: "Principal", detail: str) -> None:
        told = {"agent": principal.agent, "detail": detail}
        if self._paced_log.write(logging.WARNING, "worker.metric_not_taken_up", "", principal.user or None, **told):
            if len(self._named) >= MAX_NAMED:
                self._named.clear()
            self._named.add(principal)
