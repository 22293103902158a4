"""One queue's way through a worker, read from top to bottom: delivery → decode → fold → commit → settle.

A delivery is folded when it arrives; only its tag stays. Its batch is closed by size, by age or by a drain: one
commit, then one ack, and what is no envelope goes to quarantine. Whatever dies in between, the ledger knows what was
counted; a lost channel rolls the open batch back, since its deliveries come again. One thread, the consumer's.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from busmon.bus.delivery import Delivery
from busmon.errors import EnvelopeError
from busmon.fleet.measured import Measured
from busmon.fleet.suspects import Suspects, identity, survives
from busmon.registry.fold.ledger import Verdict
from busmon.registry.shard.shard import Shard
from busmon.registry.upkeep import removal, requests
from busmon.status import ShardStatus
from busmon.wire.formats import Formats
from busmon.wire.json_v1 import UNKNOWN_AGENT

MAX_REFUSED_BYTES = 8 * 1024 * 1024
"""Bodies for the quarantine stay in memory until their batch is closed, so many of them close it."""

_log = structlog.get_logger(__name__)


class Settlement(Protocol):
    """Where a lane's deliveries end: the consumer's half that faces the broker."""

    def settle(self, queue: str, tags: Sequence[int]) -> None:
        """Acknowledge committed deliveries."""

    def quarantine(self, queue: str, delivery: Delivery, headers: Mapping[str, str]) -> None:
        """Publish a delivery to quarantine and acknowledge it when that is confirmed."""


class Lane:
    """The open batch of one queue, and what becomes of it.

    Attributes:
        status: what the worker tells of this queue's shard.
        settlement: where the deliveries end.
        opened_at: when the open batch took its first delivery, in seconds since the epoch; None while it is empty.
    """

    def __init__(
        self, shard: Shard, suspects: Suspects, status: ShardStatus, *, batch_size: int, formats: Formats
    ) -> None:
        self.status = status
        self.settlement: Settlement
        self.opened_at: float | None = None
        self._shard = shard
        self._suspects = suspects
        self._batch_size = batch_size
        self._formats = formats
        self._tags: list[int] = []
        self._refused: list[tuple[Delivery, EnvelopeError]] = []
        self._refused_bytes = 0
        self._measured = Measured()

    # -- the way of a batch ---------------------------------------------------------------------------------------

    def deliver(self, deliveries: Sequence[Delivery]) -> int:
        """Fold deliveries into the open batch, until it is full: how many it then took, and 0 if it has room for more.

        They count as arrived at the same time.
        """
        now = time.time()
        if self.opened_at is None:
            self.opened_at = now
        for taken, delivery in enumerate(deliveries, 1):
            self._tags.append(delivery.delivery_tag)
            try:
                if delivery.redelivered or self._suspects.blamed:
                    self._fold_warily(delivery, now)
                else:
                    self._fold(delivery, now)
            except EnvelopeError as refusal:
                self._refuse(delivery, refusal)
            if len(self._tags) >= self._batch_size or self._refused_bytes >= MAX_REFUSED_BYTES:
                return taken
        return 0

    def close(self, trigger: str) -> None:
        """Commit the open batch, and settle its deliveries.

        Args:
            trigger: `size`, `interval` or `drain`; empty for another attempt.

        Raises:
            OSError: the commit failed; the batch is open still, and nothing of it is settled.
        """
        if not self._tags:
            return
        now, began = time.time(), time.perf_counter()
        measured, self._measured = self._measured, Measured()
        measured.describe(self._shard.fold, self._shard.ledger, self.status, now)
        if trigger:
            self._shard.fold.count("busmon_batches_total", (trigger,))
        self._shard.commit(now)
        self.status.last_delivery_at = self.status.last_commit_at = now
        tags, refused = self._tags, self._refused
        self._begin(time.perf_counter() - began)
        for delivery, refusal in refused:
            _log.warning("lane.quarantined", queue=self.status.queue, reason=refusal.reason, detail=str(refusal)[:200])
            self.settlement.quarantine(self.status.queue, delivery, self._quarantine_headers(delivery, refusal, now))
        self.settlement.settle(self.status.queue, tags)

    def void(self) -> None:
        """Undo the open batch: its channel is gone, and its deliveries come again."""
        self._shard.rollback()
        self._begin(None)

    def expire(self, before: float) -> None:
        """Take out the gauges of sources silent since `before`.

        Raises:
            OSError: the commit failed; they are taken out with the next one.
        """
        if self._shard.expire(before) and not self._tags:
            self._shard.commit(time.time())

    def write_exemplars(self) -> None:
        """Let scrapes see the exemplars that are new; one that can't be written now may be the next time."""
        with suppress(OSError):
            self._shard.write_exemplars()

    def clean(self, registry_dir: Path) -> None:
        """Remove the series that a person asked to have removed, and those whose label values lost their places.

        The open batch is closed before, as its cells are the files' as they were.

        Raises:
            OSError: the files can't be rewritten; what was asked for is asked for still.
        """
        asked, now = requests.pending(registry_dir, self.status.shard), time.time()
        if not asked and not removal.is_due(self._shard):
            return
        self.close("drain")
        for request in asked:
            removed = removal.drop(self._shard, request.family, request.labels, now)
            requests.answer(registry_dir, request, self.status.shard, removed)
            _log.info("lane.series_dropped", shard=self.status.shard, family=request.family, series=removed)
        if forgotten := removal.tidy(self._shard, now):
            _log.info("lane.series_forgotten", shard=self.status.shard, series=forgotten)

    def _begin(self, commit_seconds: float | None) -> None:
        self.opened_at = None
        self._tags, self._refused, self._refused_bytes = [], [], 0
        self._measured = Measured(commit_seconds)

    # -- one delivery ---------------------------------------------------------------------------------------------

    def _refuse(self, delivery: Delivery, refusal: EnvelopeError) -> None:
        self._refused.append((delivery, refusal))
        self._refused_bytes += len(delivery.body)
        self._measured.refused[refusal.reason] += 1

    def _fold(self, delivery: Delivery, now: float) -> None:
        properties = delivery.properties
        envelope = self._formats.decode(delivery.body, properties, delivery.routing_key, delivery.published_at)
        verdict = self._shard.ledger.admit(envelope.source, properties.message_id or envelope.identity, now)
        if verdict is not Verdict.NEW:
            self._measured.verdicts[verdict] += 1
        if verdict is not Verdict.DUPLICATE:
            self._shard.fold.envelope(envelope, now)
            for part in envelope.parts:
                self._shard.ledger.hear(part.source, now)
            self._measured.take(envelope, delivery, now)

    def _fold_warily(self, delivery: Delivery, now: float) -> None:
        """Note a delivery that may have killed its worker before, or try it first if it has been blamed for that."""
        who = identity(delivery.properties.message_id, delivery.body)
        if who in self._suspects.blamed:
            if not survives(lambda: self._attempt(delivery, now), self._shard.detach):
                raise EnvelopeError("kills_worker", "decoding or folding it ended its worker")
            self._suspects.acquit(who)
        self._suspects.note(who)
        try:
            self._fold(delivery, now)
        finally:
            self._suspects.clear()

    def _attempt(self, delivery: Delivery, now: float) -> None:
        with suppress(EnvelopeError):
            self._fold(delivery, now)

    def _quarantine_headers(self, delivery: Delivery, refusal: EnvelopeError, now: float) -> dict[str, str]:
        agent = delivery.properties.app_id or UNKNOWN_AGENT
        if isinstance(agent, bytes):  # it isn't UTF-8
            agent = agent.decode(errors="backslashreplace")
        return {
            "reason": refusal.reason,
            "detail": str(refusal),
            "agent": agent,
            "original_routing_key": delivery.routing_key,
            "queue": self.status.queue,
            "quarantined_at": repr(now),
        }


class DropCount:
    """The queue through which bodies pass that the quarantine dropped: counted, and gone.

    Attributes:
        obstacle: why they aren't counted, in a line; empty while nothing is wrong.
    """

    def __init__(self, shard: Shard, queue: str) -> None:
        self.settlement: Settlement
        self.obstacle = ""
        self._shard = shard
        self._queue = queue

    def change(self, state: str, cause: str) -> None:
        """Note what is wrong with the queue."""
        lost = cause and state not in {"consuming", "draining"}
        self.obstacle = f"what the quarantine drops isn't counted: {cause}" if lost else ""

    def deliver(self, delivery: Delivery) -> None:
        """Count one drop.

        Raises:
            OSError: the commit failed; the delivery isn't settled.
        """
        self._shard.fold.count("busmon_quarantine_dropped_total")
        try:
            self._shard.commit(time.time())
        except OSError:
            self._shard.rollback()
            raise
        self.settlement.settle(self._queue, [delivery.delivery_tag])
