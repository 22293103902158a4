"""The changes in a lane's shard that come from the clock and from other processes, made once a second.

Each part runs under the lane's pace, so that none is tried while the files take no commit. One thread, the
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
from busmon.fleet.worker.lane import Lane
from busmon.fleet.worker.pace import Pace
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.operator import removal, requests
from busmon.registry.shard.shard import Shard

_PAUSE = 10
"""The pause after a removal of forgotten values, as a multiple of its duration: senders can cause removals at will."""

_log = structlog.get_logger(__name__)


class Upkeep:
    """The upkeep of one shard.

    Args:
        shard: the series' shard.
        lane: its open batch may hold some of the series.
        pace: runs commits in the shard.
    """

    def __init__(self, shard: Shard, lane: Lane, pace: Pace) -> None:
        self._shard = shard
        self._lane = lane
        self._pace = pace
        self._unexposed: list[Family] = []
        self._rests_until = -math.inf

    def follow(self, families: Iterable[Family]) -> None:
        """Use other families from now on; the next beat makes their bounded series."""
        self._unexposed = list(families)

    def beat(self, silent_since: float, registry_dir: Path) -> None:
        """Make the changes that are due.

        Args:
            silent_since: sources without an envelope since then are removed, in seconds since the epoch.
            registry_dir: the directory of the requests for removal.
        """
        self._pace.run(self._lane.fold_gathered)  # a source that is gathered isn't silent
        self._pace.run(partial(self._expire, silent_since))
        self._pace.run(partial(self._clean, registry_dir))
        self._pace.run(self._expose)
        with suppress(OSError):  # the next beat writes again
            self._shard.write_for_readers()

    def _expire(self, before: float) -> None:
        """Remove the gauges of sources silent since `before`; with the open batch, if there is one."""
        if self._shard.expire(before) and self._lane.opened_at is None:
            self._shard.commit(time.time())

    def _clean(self, registry_dir: Path) -> None:
        """Remove the series of an operator's requests, and the series whose label values lost their places.

        The open batch is closed before, since its cells refer to the old files. A request that fails stays pending.
        """
        shard = self._lane.number
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
        """Remove the series of forgotten values, and pause so that removals take a small part of the time."""
        began = time.monotonic()
        if forgotten := removal.tidy(self._shard, now):
            ended = time.monotonic()
            self._rests_until = ended + _PAUSE * (ended - began)
            _log.info("upkeep.series_forgotten", shard=self._lane.number, series=forgotten)

    def _expose(self) -> None:
        """Make the bounded series of the followed families, in a commit of their own; a failed commit is retried.

        The commit is separate because a batch that is rolled back would remove the series again.
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
