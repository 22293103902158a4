"""The part of a replicated shard in its worker: when to register, to claim the shard, and to let it go.

A worker registers on the shard's queue once it has read the shard's log to the end. The first delivery tells it that it
is the active consumer, so it claims the shard. When it loses the shard, it undoes its batch and drops the queue's
channel. While no host's records come, any worker may claim the shard, so that an idle shard has an owner; a host also
claims the shards that are its share of those of all hosts. One thread, the consumer's.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from busmon.bus.consume.consumer import Consumer
from busmon.bus.frames.delivery import Delivery
from busmon.fleet.worker.lane import Lane
from busmon.fleet.worker.owned_log import OwnedLog
from busmon.fleet.worker.pace import Later, Pace
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.status import ReplicaStatus
from busmon.wall_clock import TOLERANCE_SECONDS

TURN_SECONDS = 0.02

SPREADING_BEATS = 10
"""Beats for which a host waits before it claims its share, so that hosts that start together see one another."""

_log = structlog.get_logger(__name__)


class Replication:
    """The driver of one shard's log, and the listener of its queue.

    Args:
        followed: the shard's log.
        shard: the shard.
        lane: its open batch.
        pace: gets the deliveries while the worker owns the shard.
        consumer: registers on the queues.
        queue: the shard's.
        others: the queues that only the shard's owner consumes.
        later: the loop's timer.
        at_owning: makes what only an owner makes, in the shard's open batch, which is committed next.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        *,
        followed: OwnedLog,
        shard: ReplicatedShard,
        lane: Lane,
        pace: Pace,
        consumer: Consumer,
        queue: str,
        others: Sequence[str],
        later: Later,
        at_owning: Callable[[], None],
    ) -> None:
        self._followed = followed
        self._shard = shard
        self._lane = lane
        self._pace = pace
        self._consumer = consumer
        self._queue = queue
        self._others = others
        self._later = later
        self._at_owning = at_owning
        self._is_owning = self._is_registered = self._is_over = False
        self._beats = 0

    @property
    def status(self) -> ReplicaStatus:
        """Return the replica's status."""
        return self._followed.status

    @property
    def obstacles(self) -> list[str]:
        """Return what keeps hosts from sharing the shard as they should, a line each."""
        return self._followed.obstacles

    @property
    def is_owning(self) -> bool:
        """Return whether the worker owns the shard."""
        return self._is_owning and self._followed.is_owning

    def start(self) -> None:
        """Follow the log, and consume nothing yet."""
        self._consumer.suspend([self._queue, *self._others])
        self._later(0, self._turn)

    def resume(self) -> None:
        """Consume again: the files take commits again."""
        if self._is_registered:
            self._consumer.resume([self._queue, *(self._others if self._is_owning else ())])

    # -- the consumer's calls -----------------------------------------------------------------------------------------

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Claim the shard if the worker doesn't own it, and count the deliveries."""
        self._find_loss()  # the claim applies other hosts' records, so no batch may be open
        if not self._is_registered:  # the channel is about to be dropped
            return
        if self.is_owning or self._claim(is_served=True):
            self._pace.deliver(deliveries)
        else:
            self._let_go("the shard can't be claimed")

    def void(self) -> None:
        """Undo the open batch: the channel is lost, and another host may get the deliveries."""
        if self._is_owning:
            self._followed.doubt("the channel of the shard's queue was lost")
            self._stop()
        self._pace.void()

    def change(self, state: str, cause: str) -> None:
        """Note the state of the queue's consumer."""
        self._pace.change(state, cause)

    # -- the log ------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        if self._is_over:
            return
        self._later(TURN_SECONDS, self._turn)
        self._find_loss()
        self._followed.turn()
        self._find_loss()
        if self._followed.is_current and not self._is_registered:
            self._is_registered = True
            self._consumer.resume([self._queue])
        if self._followed.is_current and not self._is_owning and not self._followed.has_owner:
            self._claim()

    def _find_loss(self) -> None:
        if self._is_owning and not self._followed.is_owning:
            self._stop()
            self._let_go(f"shard {self._queue!r} is lost: {self._followed.status.cause or 'another host owns it'}")

    def _stop(self) -> None:
        """Own the shard no longer: undo the open batch before any other record is applied."""
        self._is_owning = False
        self._pace.void()
        self._shard.rollback()
        self._consumer.suspend(self._others)
        for queue in self._others:
            self._drop_channel(queue, "another host may own the shard")

    def _let_go(self, detail: str) -> None:
        """Drop the queue's channel; register again once the worker has read the log to its end."""
        _log.warning("replication.shard_lost", queue=self._queue, detail=detail)
        self._consumer.suspend([self._queue])
        self._is_registered = False
        self._drop_channel(self._queue, detail)

    def _drop_channel(self, queue: str, detail: str) -> None:
        # Not at once: the channel may be in the middle of a read.
        self._later(0, partial(self._consumer.renew, queue, detail))

    def _claim(self, *, is_served: bool = False) -> bool:
        """Claim the shard; return whether the worker owns it."""
        if not self._followed.claim(is_served=is_served):
            return False
        self._is_owning = True
        self._pace.run(self._begin_owning)
        if not self._followed.is_owning:
            self._stop()
            return False
        self._consumer.resume(self._others)
        return True

    def _begin_owning(self) -> None:
        """Make the first commit of the owner.

        Raises:
            OSError: the log doesn't count it, or the disk is full: then it is part of the next commit.
        """
        now = time.time()
        if abs(step := self._followed.measure_clock_step(now)) > TOLERANCE_SECONDS:
            _log.warning("replication.clocks_differ", queue=self._queue, seconds=round(step, 1))
            self._shard.follow_step(step, now)
        self._at_owning()
        self._shard.commit(now)

    # -- once a second ------------------------------------------------------------------------------------------------

    def beat(self, now: float, *, is_asked: bool) -> None:
        """Append what is due: a snapshot, a sign of life, or the claim to a shard that is this host's share.

        Args:
            now: the wall clock's time, in seconds since the epoch.
            is_asked: an operator asks this host for what only the shard's owner can do.
        """
        if self._is_over:
            return
        if is_asked and not self._is_owning:
            self._claim()
        self._beats = 0 if not self._followed.is_preferred else self._beats + 1
        if self._beats >= SPREADING_BEATS:
            self._beats = -SPREADING_BEATS
            self._claim()
        if not self.is_owning:
            self._followed.announce()
            return
        if self._followed.is_snapshot_due:
            self._pace.close(Trigger.SNAPSHOT)
            if self._lane.opened_at is None:
                self._pace.run(partial(self._followed.snapshot, now))
        self._pace.run(partial(self._followed.tick, now))

    def drain(self) -> None:
        """Let the shard go, in order, and follow the log no further: the open batch is committed."""
        self._is_over, self._is_owning = True, False
        self._followed.release()

    def close(self) -> None:
        """Close the connection to the log."""
        self._followed.close()
