"""What the clock and other processes change in a lane's shard, beside its batches; looked after once a second.

Each part runs where the lane's commits do, so that none is tried while the files take nothing. One thread, the
consumer's.
"""

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from busmon.catalogue.family import Family
from busmon.fleet.lane import Lane
from busmon.fleet.pace import Pace
from busmon.fleet.trigger import Trigger
from busmon.registry.shard.shard import Shard
from busmon.registry.upkeep import removal, requests

_PAUSE = 10
"""Times as long as a removal took, no other one of forgotten values begins: crowds of names can ask for one at will."""

_log = structlog.get_logger(__name__)


class Upkeep:
    """Looks after one shard.

    Args:
        shard: whose series are looked after.
        lane: whose open batch may hold some of them.
        pace: runs what commits in the shard.
    """

    def __init__(self, shard: Shard, lane: Lane, pace: Pace) -> None:
        self._shard = shard
        self._lane = lane
        self._pace = pace
        self._unexposed: list[Family] = []
        self._rests_until = -math.inf

    def follow(self, families: Iterable[Family]) -> None:
        """Go by other families from here on; their bounded series are made with the next beat."""
        self._unexposed = list(families)

    def beat(self, silent_since: float, registry_dir: Path) -> None:
        """Do what is due.

        Args:
            silent_since: sources that weren't heard since then leave, in seconds since the epoch.
            registry_dir: where removals are asked for.
        """
        self._pace.run(partial(self._expire, silent_since))
        self._pace.run(partial(self._clean, registry_dir))
        self._pace.run(self._expose)
        with suppress(OSError):  # what can't be written now may be the next time
            self._shard.write_for_readers()

    def _expire(self, before: float) -> None:
        """Take out the gauges of sources silent since `before`; with the open batch, if there is one."""
        if self._shard.expire(before) and self._lane.opened_at is None:
            self._shard.commit(time.time())

    def _clean(self, registry_dir: Path) -> None:
        """Remove the series that a person asked to have removed, and those whose label values lost their places.

        The open batch is closed before, as its cells are the files' as they were. What was asked for and can't be done
        is asked for still.
        """
        shard = self._lane.status.shard
        asked, now = requests.pending(registry_dir, shard), time.time()
        is_tidied = time.monotonic() >= self._rests_until and removal.is_due(self._shard)
        if not asked and not is_tidied:
            return
        self._lane.close(Trigger.REMOVAL)
        for request in asked:
            removed = removal.carry_out(self._shard, request, now)
            requests.answer(registry_dir, request, shard, removed)
            _log.info("upkeep.series_dropped", shard=shard, family=request.family, agent=request.agent, series=removed)
        if is_tidied:
            self._tidy(now)

    def _tidy(self, now: float) -> None:
        """Remove the series of forgotten values, and rest for as long as keeps removals a small part of the time."""
        began = time.monotonic()
        if forgotten := removal.tidy(self._shard, now):
            ended = time.monotonic()
            self._rests_until = ended + _PAUSE * (ended - began)
            _log.info("upkeep.series_forgotten", shard=self._lane.status.shard, series=forgotten)

    def _expose(self) -> None:
        """Make the bounded series of the families that are followed, in a commit of their own; one that can't be waits.

        A batch that is rolled back takes the series with it that were made while it was open.
        """
        if not self._unexposed:
            return
        self._lane.close(Trigger.RELOAD)
        try:
            self._shard.expose_at_zero(self._unexposed)
            self._shard.commit(time.time())
        except OSError:
            self._shard.rollback()
            raise
        self._unexposed = []
