"""The queue through which bodies pass that the quarantine dropped: counted, and gone.

What arrives together is counted by one commit and acknowledged by one ack. The commit is a shard's, and none of its
lane's batches, since that may yet be rolled back; while the shard is failing the drops wait. One thread.
"""

import time
from collections.abc import Sequence

from busmon.bus.delivery import Delivery
from busmon.fleet.lane import Settlement
from busmon.fleet.pace import RETRY_SECONDS, Later, Pace
from busmon.fleet.trigger import Trigger
from busmon.registry.shard.shard import Shard


class DropCount:
    """The drops that arrived, until they are counted.

    Attributes:
        settlement: where they end.
    """

    settlement: Settlement

    def __init__(self, shard: Shard, pace: Pace, queue: str, later: Later) -> None:
        self._shard = shard
        self._pace = pace
        self._queue = queue
        self._later = later
        self._cause = ""
        self._tags: list[int] = []
        self._is_waiting = False
        self._is_suspended = False

    @property
    def obstacle(self) -> str:
        """Why they aren't counted, in a line; empty while nothing is wrong."""
        cause = self._cause or (self._pace.error if self._tags or self._is_suspended else "")
        return f"what the quarantine drops isn't counted: {cause}" if cause else ""

    def change(self, state: str, cause: str) -> None:
        """Note what is wrong with the queue."""
        self._is_suspended = state == "suspended"
        self._cause = "" if state in {"consuming", "draining", "suspended"} else cause

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Count drops, now or as soon as the files take it."""
        self._tags += [delivery.delivery_tag for delivery in deliveries]
        if not self._is_waiting:
            self._count()

    def void(self) -> None:
        """Forget the drops that aren't counted: they come again."""
        self._tags = []

    def _count(self) -> None:
        if self._tags:
            self._pace.close(Trigger.DROPS)
            self._pace.run(self._commit)
        self._is_waiting = bool(self._tags)
        if self._is_waiting:
            self._later(RETRY_SECONDS, self._count)

    def _commit(self) -> None:
        self._shard.fold.count("busmon_quarantine_dropped_total", amount=len(self._tags))
        try:
            self._shard.commit(time.time())
        except OSError:
            self._shard.rollback()
            raise
        tags, self._tags = self._tags, []
        self.settlement.settle(self._queue, tags)
