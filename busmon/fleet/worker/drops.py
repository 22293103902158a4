"""The queue of the bodies that the quarantine dropped, which are counted and discarded.

Bodies that arrive together are counted by one commit and acknowledged by one ack. The commit is the shard's own and not
a batch of its lane, since a batch may be rolled back. While the shard is failing, the drops wait. One thread.
"""

import time
from collections.abc import Sequence

from busmon.bus.frames.delivery import Delivery
from busmon.fleet.worker.open_batch import Settlement
from busmon.fleet.worker.pace import RETRY_SECONDS, Later, Pace
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.shard.shard import Shard
from busmon.status import ConsumerState


class DropCount:
    """The drops that aren't counted yet, and the listener of their queue."""

    def __init__(self, shard: Shard, pace: Pace, settlement: Settlement, queue: str, later: Later) -> None:
        self._settlement = settlement
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
        """Return the reason for which drops aren't counted, in a line; empty while nothing is wrong."""
        cause = self._cause or (self._pace.error if self._tags or self._is_suspended else "")
        return f"what the quarantine drops isn't counted: {cause}" if cause else ""

    def change(self, state: str, cause: str) -> None:
        """Note the state of the queue and its cause."""
        self._is_suspended = state == ConsumerState.SUSPENDED
        self._cause = (
            "" if state in {ConsumerState.CONSUMING, ConsumerState.DRAINING, ConsumerState.SUSPENDED} else cause
        )

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Count drops, at once or as soon as the files take the commit."""
        self._tags += [delivery.delivery_tag for delivery in deliveries]
        if not self._is_waiting:
            self._count()

    def void(self) -> None:
        """Forget the uncounted drops: the broker redelivers them."""
        self._tags = []

    def _count(self) -> None:
        if self._tags:
            self._pace.close(Trigger.DROPS)
            self._pace.run(self._commit)
        self._is_waiting = bool(self._tags)
        if self._is_waiting:
            self._later(RETRY_SECONDS, self._count)

    def _commit(self) -> None:
        self._shard.fold.own.count("busmon_quarantine_dropped_total", amount=len(self._tags))
        try:
            self._shard.commit(time.time())
        except OSError:
            self._shard.rollback()
            raise
        tags, self._tags = self._tags, []
        self._settlement.settle(self._queue, tags)
