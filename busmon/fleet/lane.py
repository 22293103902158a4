"""One queue's way through a worker, read from top to bottom: delivery → decode → fold → commit → settle.

A delivery is folded when it arrives. Its batch is closed by size, by age or by a drain: one commit, then one ack, and
what is no envelope goes to quarantine. Whatever dies in between, the ledger knows what was counted. A batch that the
files can't take is rolled back and its deliveries kept, to be folded again; one that can't be counted for another
reason is folded again one by one, so that whose fault it is goes to quarantine alone. One thread, the consumer's.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, compress, groupby, takewhile
from math import inf
from operator import attrgetter
from typing import Protocol

import structlog

from busmon.bus.delivery import Delivery
from busmon.bus.relayed import HEADER
from busmon.errors import BusmonError, EnvelopeError
from busmon.fleet import ownership as owned
from busmon.fleet.clock import TOLERANCE_SECONDS
from busmon.fleet.measured import Measured
from busmon.fleet.ownership import Ownership
from busmon.fleet.suspects import COMMIT, Suspects, identity, survives
from busmon.fleet.trigger import Trigger
from busmon.registry.fold.ledger import Verdict
from busmon.registry.shard.shard import Shard
from busmon.status import ShardStatus
from busmon.wire.encoding import may_be_compressed
from busmon.wire.envelope import Envelope
from busmon.wire.formats import Formats
from busmon.wire.json_v1 import UNKNOWN_AGENT

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Bodies stay in memory until their batch is closed, so many of them close it."""

MAX_RUN_BYTES = 64 * 1024
"""Bodies, as delivered, that are decoded before the first of them is folded: while it is in the processor's cache."""

SLICE_SECONDS = 0.25
"""Work on what arrived together, after which the loop has its turn: heartbeats, acks, timers and the other lanes."""

MAX_RUN = 1000
"""Deliveries that are looked at together, however small."""

_MAX_WARNED = 1000
_ADVICE = (
    "two OpenTelemetry senders look like one, so their gauges replace each other: give each a service.instance.id or"
    " host.name (the Collector's resourcedetection processor does), a routing key of its own, or the header 'source'"
)

_body_of, _is_redelivered = attrgetter("body"), attrgetter("redelivered")
_encoding_of = attrgetter("content_encoding")
_source_of, _agent_of = attrgetter("source"), attrgetter("agent")

_LAST = frozenset({Trigger.DRAIN, Trigger.CANCEL})
"""After these nothing is taken any more, so the batch has all that was delivered."""

_UNCOUNTED = frozenset({Verdict.DUPLICATE, Verdict.FOREIGN})

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
        progress: called for what is folded together, as much may have arrived together.
        opened_at: when the open batch took its first delivery, by the monotonic clock; None while it is empty.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        shard: Shard,
        suspects: Suspects,
        status: ShardStatus,
        *,
        batch_size: int,
        formats: Formats,
        ownership: Ownership,
    ) -> None:
        self.status = status
        self.settlement: Settlement
        self.opened_at: float | None = None
        self._shard = shard
        self._suspects = suspects
        self._batch_size = batch_size
        self._formats = formats
        self._ownership = ownership
        shard.check_users(are_checked=ownership.is_checked)
        self._read_at = 0.0
        self.progress: Callable[[], object] = lambda: None
        self._kept: list[Delivery] = []
        self._waiting: list[Delivery] = []
        self._warned: set[str] = set()
        self._rehearsed: list[Delivery] = []
        self._begin(None)

    def _begin(self, commit_seconds: float | None) -> None:
        self.opened_at = None
        self._batch: list[Delivery] = []
        self._batch_bytes = 0
        self._refused: list[tuple[Delivery, EnvelopeError]] = []
        self._measured = Measured(commit_seconds)

    # -- the way of a batch ---------------------------------------------------------------------------------------

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Fold deliveries into the open batch, and close it whenever it is full; after a slice of time the rest waits.

        Raises:
            OSError: the files can't take them. What isn't settled is kept, and so is all that is delivered from then
                on, until `close` or `retry` succeeds.
        """
        has_waiting = bool(self._waiting)
        self._waiting += deliveries
        if not has_waiting:
            self.work()

    @property
    def is_behind(self) -> bool:
        """Return whether deliveries wait for the next slice."""
        return bool(self._waiting) and not self._kept

    def work(self) -> None:
        """Fold what waits, for a slice of time.

        Raises:
            OSError: as of `deliver`.
        """
        if self.is_behind:
            waiting, self._waiting = self._waiting, []
            self._take(waiting, seconds=SLICE_SECONDS)

    def close(self, trigger: Trigger) -> None:
        """Commit what is open or was kept, and settle its deliveries; before an end, what waits, too.

        Raises:
            OSError: the files can't take it; nothing of the batch is settled, and its deliveries are kept.
        """
        kept, self._kept = self._kept, []
        if kept or trigger in _LAST:
            kept, self._waiting = [*kept, *self._waiting], []
        self._take(kept, trigger)

    def retry(self) -> None:
        """Close the batch, and show that the files take one: if it is void, without counting it.

        Raises:
            OSError: they don't.
        """
        self.close(Trigger.RETRY)
        self._rehearse()
        self._shard.commit(time.time())

    def void(self) -> None:
        """Undo the open batch: its channel is gone, and its deliveries come again."""
        self._shard.rollback()
        self._begin(None)
        self._waiting = []
        if self._kept:
            self._kept, self._rehearsed = [], self._kept[: self._batch_size]

    def _rehearse(self) -> None:
        """Do all of a commit that takes room, with the batch that had none; an empty commit takes next to none."""
        if not self._rehearsed:
            return
        try:
            self._fold_all(self._rehearsed, time.time())
            self._shard.rehearse(time.time())
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - no fault of the disk; it will be met, and blamed, when it is delivered
            _log.debug("lane.rehearsal_ended", queue=self.status.queue, exc_info=True)
        finally:
            self._shard.rollback()
            self._begin(None)
        self._rehearsed = []

    def _take(self, deliveries: Sequence[Delivery], trigger: Trigger | None = None, seconds: float = inf) -> None:
        """Fold deliveries, commit whenever the batch is full, and in the end where there is a trigger.

        Once so many seconds are over, the rest waits.
        """
        taken, ends_at = 0, time.monotonic() + seconds
        try:
            while taken < len(deliveries):
                if taken and time.monotonic() > ends_at:
                    self._waiting = [*deliveries[taken:]]
                    break
                if self._suspects.is_commit_suspected and deliveries[taken].redelivered:
                    self._commit(Trigger.FAULT)
                    taken += 1
                    self._take_alone(deliveries[taken - 1])
                    continue
                run = self._next_run(deliveries, taken)
                taken += len(run)
                self._batch += run
                self._fold_all(run, self._now())
                if len(self._batch) >= self._batch_size or self._batch_bytes >= MAX_BATCH_BYTES:
                    self._commit(Trigger.SIZE)
            if trigger:
                self._commit(trigger)
        except OSError:
            self._undo(deliveries[taken:])
            raise
        except BusmonError:
            raise
        except Exception as fault:  # noqa: BLE001 - whatever a body can make the fold or the commit raise
            self._undo(deliveries[taken:])
            self._single_out(fault)
        if self._batch and self.opened_at is None:
            self.opened_at = time.monotonic()

    def _take_alone(self, delivery: Delivery) -> None:
        """Make a batch of one delivery, which is noted until it is committed: its like may have ended a worker."""
        self._batch = [delivery]
        self._fold_all(self._batch, self._now())
        self._commit(Trigger.FAULT, identity(delivery.message_id, delivery.body))

    def _now(self) -> float:
        """Return the wall clock's time, after the shard is told if the clock was set back since it was last read."""
        now, before = time.time(), self._read_at
        if now < before - TOLERANCE_SECONDS:
            self._shard.rewind(now)
        self._read_at = now
        return now

    def _next_run(self, deliveries: Sequence[Delivery], start: int) -> Sequence[Delivery]:
        """The deliveries from `start` on that are folded next: at most those that fill the batch."""
        run = deliveries[start : start + min(self._batch_size - len(self._batch), MAX_RUN)]
        if self._suspects.is_commit_suspected:
            run = [*takewhile(lambda delivery: not delivery.redelivered, run)]
        ends = [*accumulate(map(len, map(_body_of, run)), initial=self._batch_bytes)]
        most = min(MAX_BATCH_BYTES, self._batch_bytes + MAX_RUN_BYTES)
        if ends[-1] >= most:
            run = run[: bisect_left(ends, most)]
        if any(map(_encoding_of, run)):
            run = run[: next(place for place, delivery in enumerate(run, 1) if delivery.content_encoding)]
        self._batch_bytes = ends[len(run)]
        return run

    def _commit(self, trigger: Trigger, suspect: str = COMMIT) -> None:
        """Make the batch durable, and only then settle its deliveries.

        Args:
            trigger: as of `close`.
            suspect: who is to blame if the worker dies in it: the identity of the batch's only delivery, if it has one.
        """
        if not self._batch:
            return
        now, began = self._now(), time.perf_counter()
        self._measured.describe(self._shard.fold, self._shard.ledger, self.status, now)
        self._shard.fold.count("busmon_batches_total", (str(trigger),))
        self._suspects.note(suspect)
        try:
            self._shard.commit(now)
        finally:
            self._suspects.clear()
        self.status.last_commit_at = now
        for sample in self._shard.fold.rejected.fresh():
            _log.debug("lane.sample_rejected", queue=self.status.queue, **asdict(sample))
        batch, refused = self._batch, self._refused
        self._begin(time.perf_counter() - began)
        for delivery, refusal in refused:
            _log.warning("lane.quarantined", queue=self.status.queue, reason=refusal.reason, detail=str(refusal)[:200])
            self.settlement.quarantine(self.status.queue, delivery, self._quarantine_headers(delivery, refusal, now))
        self.settlement.settle(self.status.queue, [delivery.delivery_tag for delivery in batch])

    # -- what arrived together ------------------------------------------------------------------------------------

    def _fold_all(self, run: Sequence[Delivery], now: float) -> None:
        """Fold deliveries together, but for those that may be killers."""
        may_kill = self._may_kill if self._suspects.blamed else _is_redelivered
        for suspected, together in groupby(run, may_kill):
            if suspected:
                for delivery in together:
                    self._fold_warily(delivery, now)
            else:
                self._fold([*together], now)

    def _may_kill(self, delivery: Delivery) -> bool:
        return delivery.redelivered or identity(delivery.message_id, delivery.body) in self._suspects.blamed

    def _fold(self, run: Sequence[Delivery], now: float) -> None:
        """Decode deliveries and count them."""
        bodies, _, _, routing_keys, content_types, content_encodings, message_ids, _, users, _ = zip(*run, strict=True)
        envelopes = self._formats.decode_all(bodies, routing_keys, content_types, content_encodings, message_ids)
        if envelopes is not None and not (self._ownership.is_required and None in users):
            self._count(run, envelopes, message_ids, now)
            return
        for decoded in self._decoded(run):
            run, envelopes = ([*column] for column in zip(*decoded, strict=True))
            self._count(run, envelopes, [each.message_id or envelope.identity for each, envelope in decoded], now)

    def _decoded(self, run: Iterable[Delivery]) -> Iterator[list[tuple[Delivery, Envelope]]]:
        """The deliveries that are envelopes, and the envelopes; the others are refused.

        An envelope may take a thousand times the memory of a compressed body, so no two of these are held at a time.
        """
        decoded: list[tuple[Delivery, Envelope]] = []
        for delivery in run:
            try:
                envelope = self._owned(delivery, self._formats.decode(delivery))
            except EnvelopeError as refusal:
                self._refuse(delivery, refusal)
                continue
            decoded.append((delivery, envelope))
            if envelope.parts or may_be_compressed(delivery.body, delivery.content_encoding):
                yield decoded
                decoded = []
        if decoded:
            yield decoded

    def _owned(self, delivery: Delivery, envelope: Envelope) -> Envelope:
        """Return the envelope of a delivery, unless another user owns a source of one of its parts.

        Raises:
            EnvelopeError: `no_user` or `foreign_source`.
        """
        user = self._ownership.users([delivery])[0]
        self._ownership.require(user)
        if envelope.parts and self._ownership.is_checked:
            if user is not None:
                envelope = owned.own_sources(envelope, user)
            for part in envelope.parts:
                if self._shard.ledger.is_foreign(part.source, user):
                    raise owned.foreign_source(part.source, user)
        return envelope

    def _count(
        self, run: Sequence[Delivery], envelopes: Sequence[Envelope], message_ids: Iterable[str | None], now: float
    ) -> None:
        """Look the envelopes' ids up, fold them and measure them: each step for all of them."""
        self.progress()
        ledger, fold, clock = self._shard.ledger, self._shard.fold.envelope, time.time
        users = self._ownership.users(run)
        verdicts = ledger.admit_all(map(_source_of, envelopes), message_ids, now, users, map(_agent_of, envelopes))
        if verdicts.count(Verdict.NEW) < len(verdicts):
            self._note(verdicts, run, envelopes, users)
            counted = [verdict not in _UNCOUNTED for verdict in verdicts]
            run, envelopes = [*compress(run, counted)], [*compress(envelopes, counted)]
            users = [*compress(users, counted)]
        for envelope, user in zip(envelopes, users, strict=True):
            fold(envelope, clock(), user)  # which of two gauges of one source is the later is told by their arrival
            for part in envelope.parts:
                ledger.hear(part.source, now, user, envelope.agent)
        self._measured.take(run, envelopes, now)
        if self._shard.fold.streams.confused:
            self._warn_of_confused_sources()

    def _warn_of_confused_sources(self) -> None:
        """Say once of each name that two sources have it, and what to set."""
        confused = self._shard.fold.streams.confused
        for source in confused - self._warned:
            _log.warning("lane.sources_confused", queue=self.status.queue, source=source, advice=_ADVICE)
        self._warned = confused if len(self._warned) >= _MAX_WARNED else self._warned | confused
        self._shard.fold.streams.confused = set()

    def _note(
        self,
        verdicts: Sequence[Verdict],
        run: Sequence[Delivery],
        envelopes: Sequence[Envelope],
        users: Sequence[str | None],
    ) -> None:
        """Note the verdicts other than `NEW`, and refuse what another user published."""
        for verdict, delivery, envelope, user in zip(verdicts, run, envelopes, users, strict=True):
            if verdict is Verdict.FOREIGN:
                self._refuse(delivery, owned.foreign_source(envelope.source, user))
            elif verdict is not Verdict.NEW:
                self._measured.verdicts[verdict] += 1

    def _fold_warily(self, delivery: Delivery, now: float) -> None:
        """Note a delivery that may have killed its worker before, or try it first if it has been blamed for that."""
        who = identity(delivery.message_id, delivery.body)
        if who in self._suspects.blamed:
            if not survives(lambda: self._undergo(delivery, now), self._shard.detach):
                self._suspects.convict(who, now)
                self._refuse(delivery, EnvelopeError("kills_worker", "decoding or folding it ended its worker"))
                return
            self._suspects.acquit(who)
        self._suspects.note(who)
        try:
            self._fold([delivery], now)
        finally:
            self._suspects.clear()

    def _undergo(self, delivery: Delivery, now: float) -> None:
        """Fold and commit a delivery in a child that has let go of the shard's files."""
        self._shard.rollback()
        self._fold([delivery], now)
        self._shard.commit(now)

    # -- what is no envelope --------------------------------------------------------------------------------------

    def _refuse(self, delivery: Delivery, refusal: EnvelopeError) -> None:
        self._refused.append((delivery, refusal))
        self._measured.refused[refusal.reason] += 1

    def _quarantine_headers(self, delivery: Delivery, refusal: EnvelopeError, now: float) -> dict[str, str]:
        agent = delivery.properties.app_id or UNKNOWN_AGENT
        if isinstance(agent, bytes):  # it isn't UTF-8
            agent = agent.decode(errors="backslashreplace")
        user = self._ownership.users([delivery])[0]
        return {
            **({} if user is None else {HEADER: user}),
            "reason": refusal.reason,
            "detail": str(refusal),
            "agent": agent,
            "original_routing_key": delivery.routing_key,
            "queue": self.status.queue,
            "quarantined_at": repr(now),
        }

    # -- a batch that can't be committed --------------------------------------------------------------------------

    def _undo(self, unfolded: Sequence[Delivery] = ()) -> None:
        """Roll the open batch back, and keep its deliveries and those that should have followed."""
        self._shard.rollback()
        kept = [*self._batch, *unfolded]
        self._begin(None)
        self._kept = kept

    def _single_out(self, fault: Exception) -> None:
        """Commit each of the kept deliveries alone, as one of them can't be counted; that one is refused.

        A commit of none of them comes first: if that can't be made either, it isn't their fault, and the worker ends.
        """
        self._shard.commit(time.time())
        suspects, self._kept = self._kept, []
        rest = iter(suspects)
        try:
            for delivery in rest:
                if len(suspects) == 1:
                    self._refuse_uncountable(delivery, fault)
                else:
                    self._take([delivery], Trigger.FAULT)
        except OSError:
            self._kept += rest
            raise

    def _refuse_uncountable(self, delivery: Delivery, fault: Exception) -> None:
        _log.error("lane.fault_met", queue=self.status.queue, error=f"{type(fault).__name__}: {fault}"[:200])
        self._batch.append(delivery)
        self._refuse(delivery, EnvelopeError("uncountable", f"counting it failed: {type(fault).__name__}"))
        try:
            self._commit(Trigger.FAULT)
        except OSError:
            self._undo()
            raise
