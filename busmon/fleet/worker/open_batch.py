"""The open batch of one shard: its deliveries, its commit, and the settlement after the commit.

No delivery is acknowledged before its commit. A rollback undoes the batch: its deliveries return to the lane, and the
ledger forgets their ids. One thread, the consumer's.
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple, Protocol

import structlog

from busmon.bus.frames.delivery import Delivery, sizes_of
from busmon.bus.republish.relayed import EXCHANGE, HEADER, QUARANTINED_AT
from busmon.errors import EnvelopeError
from busmon.fleet.worker.measured import Measured
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.paced_log import PacedLog
from busmon.fleet.worker.quarantine_shares import QuarantineShares
from busmon.fleet.worker.suspects import COMMIT, Suspects
from busmon.fleet.worker.trigger import Trigger
from busmon.reasons import BodyReason
from busmon.registry.shard.shard import Shard
from busmon.wall_clock import TOLERANCE_SECONDS
from busmon.wire.json_v1 import UNKNOWN_AGENT

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Deliveries stay in memory until their batch is closed, so this size closes it."""

MAX_RUN_BYTES = 64 * 1024
"""The bytes of deliveries that are folded together, gathered until then: they fit into the processor's cache."""

MAX_RUN = 1000
"""Deliveries that are folded together, however small."""

_UNCHARGED = frozenset({BodyReason.KILLS_WORKER, BodyReason.UNCOUNTABLE})
"""The refusals that may be faults of busmon itself: a later version may count the bodies when they are replayed."""

_NO_USER = ""
"""The label value for bodies that state no user; RabbitMQ accepts no user of this name."""

_MAX_LOGGED = 200
"""Characters of a refusal's detail in a line of the log."""

_encoding_of = attrgetter("content_encoding")

_log = structlog.get_logger(__name__)


class Settlement(Protocol):
    """The consumer's interface to settle deliveries."""

    def settle(self, queue: str, tags: Sequence[int]) -> None:
        """Acknowledge committed deliveries."""

    def quarantine(
        self, queue: str, delivery: Delivery, headers: Mapping[str, str], stored: Callable[[], None]
    ) -> None:
        """Publish a delivery to quarantine, and acknowledge the delivery after the publish's confirm.

        `stored` is called at the confirm, unless the delivery has become void.
        """


class _Refused(NamedTuple):
    """A refused delivery, with the user that published it.

    Attributes:
        is_kept: it is quarantined, or else discarded.
    """

    delivery: Delivery
    refusal: EnvelopeError
    user: str | None
    is_kept: bool


class OpenBatch:
    """The deliveries of the open batch, with its refusals and measures.

    Args:
        shard: its files take the commit.
        suspects: has a note during the commit.
        settlement: settles the deliveries after the commit.
        ownership: names the publisher of a refused delivery.
        shares: decide on the refused deliveries that are quarantined.
        paced_log: takes the lines that publishers cause.
        number: the shard's.
        queue: the deliveries' origin.
        max_deliveries: the size of a full batch.

    Attributes:
        opened_at: the monotonic clock's time when the batch took its first delivery; None while it is empty.
        measured: the measures that are committed with the batch.
        paced_log: as given.
        committed_at: the wall clock's time of the last commit; None before the first.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        shard: Shard,
        suspects: Suspects,
        settlement: Settlement,
        ownership: Ownership,
        *,
        shares: QuarantineShares,
        paced_log: PacedLog,
        number: int,
        queue: str,
        max_deliveries: int,
    ) -> None:
        self.committed_at: float | None = None
        self.paced_log = paced_log
        self._shares = shares
        self._shard = shard
        self._suspects = suspects
        self._settlement = settlement
        self._ownership = ownership
        self._number = number
        self._queue = queue
        self._max_deliveries = max_deliveries
        self._read_at = 0.0
        self._begin(None)

    def _begin(self, commit_seconds: float | None) -> None:
        self.opened_at: float | None = None
        self.measured = Measured(commit_seconds)
        self._deliveries: list[Delivery] = []
        self._bytes = 0
        self._refused: list[_Refused] = []

    @property
    def room(self) -> int:
        """Return how many further deliveries fill the batch."""
        return self._max_deliveries - len(self._deliveries)

    @property
    def is_full(self) -> bool:
        """Return whether the batch takes no further delivery."""
        return self.room <= 0 or self._bytes >= MAX_BATCH_BYTES

    def begin(self, since: float) -> None:
        """Count the batch's age from this time of the monotonic clock, unless the batch has begun."""
        if self.opened_at is None:
            self.opened_at = since

    def take(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Take the first of these deliveries, at least one and at most those that fill the batch; return them.

        A compressed body ends the run, since decompression may make it a thousand times as large.
        """
        run = deliveries[: min(self.room, MAX_RUN)]
        ends = [*accumulate(sizes_of(run), initial=self._bytes)]
        most = min(MAX_BATCH_BYTES, self._bytes + MAX_RUN_BYTES)
        if ends[-1] >= most:
            run = run[: bisect_left(ends, most)]
        if any(map(_encoding_of, run)):
            run = run[: next(place for place, delivery in enumerate(run, 1) if delivery.content_encoding)]
        self._bytes = ends[len(run)]
        self._deliveries += run
        self.begin(time.monotonic())
        return run

    def refuse(self, delivery: Delivery, refusal: EnvelopeError) -> None:
        """Send a delivery of the batch to quarantine, or discard it beyond its user's share, after the commit."""
        user = self._ownership.users([delivery])[0]
        # A replayed body has left room behind, and would be lost if its user's share were spent.
        is_uncharged = refusal.reason in _UNCHARGED or self._ownership.is_replayed(delivery)
        is_kept = is_uncharged or self._shares.take(delivery.delivery_tag, user, len(delivery.body))
        self._refused.append(_Refused(delivery, refusal, user, is_kept))
        self.measured.refused[refusal.reason] += 1
        if not is_kept:
            self.measured.discarded[user or _NO_USER] += 1

    def read_clock(self) -> float:
        """Return the wall clock's time; rewind the shard before if the clock was set back since the last call."""
        now, before = time.time(), self._read_at
        if now < before - TOLERANCE_SECONDS:
            self._shard.rewind(now)
        self._read_at = now
        return now

    def commit(self, trigger: Trigger, suspect: str = COMMIT) -> None:
        """Make the batch durable, and only then settle its deliveries.

        Args:
            trigger: counted as the cause.
            suspect: blamed if the worker dies in the commit: the identity of a batch's only delivery.

        Raises:
            OSError: the files can't take the batch; the batch is still open, and nothing of it is settled.
        """
        if not self._deliveries:
            return
        now, began = self.read_clock(), time.perf_counter()
        self.measured.describe(self._shard.fold, self._shard.ledger, self._number, self._queue, now)
        self._shard.fold.own.count("busmon_batches_total", (str(trigger),))
        self._suspects.note(suspect)
        try:
            self._shard.commit(now)
        finally:
            self._suspects.clear()
        self.committed_at = now
        self._log_rejected_samples()
        deliveries, refused = self._deliveries, self._refused
        self._begin(time.perf_counter() - began)
        for each in refused:
            self._settle_refused(each, now)
        self._settlement.settle(self._queue, [delivery.delivery_tag for delivery in deliveries])

    def rollback(self) -> list[Delivery]:
        """Undo the batch, and return its deliveries."""
        self._shard.rollback()
        self._shares.give_back(refused.delivery.delivery_tag for refused in self._refused)
        deliveries = self._deliveries
        self._begin(None)
        return deliveries

    def void(self) -> None:
        """Undo the batch, and give back the room of committed deliveries that aren't in quarantine yet.

        The channel is lost, so the broker redelivers them.
        """
        self.rollback()
        self._shares.void()

    def _log_rejected_samples(self) -> None:
        if _log.is_enabled_for(logging.DEBUG):  # the fields of a sample cost more than its refusal
            for sample in self._shard.take_rejected():
                _log.debug("lane.sample_rejected", queue=self._queue, **asdict(sample))

    def _settle_refused(self, refused: _Refused, now: float) -> None:
        """Quarantine a refused delivery; one without room there is acknowledged with its batch."""
        delivery, refusal, user, is_kept = refused
        event = "lane.quarantined" if is_kept else "lane.discarded"
        told = {"queue": self._queue, "reason": refusal.reason, "detail": str(refusal)[:_MAX_LOGGED]}
        self.paced_log.write(logging.WARNING, event, refusal.reason, user, **told)
        if not is_kept:
            return
        headers = {
            **({} if user is None else {HEADER: user}),
            "reason": refusal.reason,
            "detail": str(refusal),
            "agent": _agent_of(delivery),
            EXCHANGE: self._ownership.find_exchange(delivery),
            "original_routing_key": delivery.routing_key,
            "queue": self._queue,
            QUARANTINED_AT: repr(now),
        }
        stored = partial(self._shares.settle, delivery.delivery_tag)
        self._settlement.quarantine(self._queue, delivery, headers, stored)


def _agent_of(delivery: Delivery) -> str:
    """Return the agent that published an undecoded body."""
    agent: str | bytes = delivery.properties.app_id or UNKNOWN_AGENT
    return agent.decode(errors="backslashreplace") if isinstance(agent, bytes) else agent
