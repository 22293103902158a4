"""The steps of deliveries into the open batch: decode, check the owner, look up the id, fold, measure.

Each step runs for all deliveries of a run. A delivery that may have killed a worker is folded alone: its identity is
noted first, and a blamed delivery is tried in a child (`suspects.py`). One thread, the consumer's.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, groupby
from operator import attrgetter

from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.properties import MAX_PROPERTIES_BYTES
from busmon.bus.republish.relayed import FirstPublish, may_be_large
from busmon.errors import EnvelopeError
from busmon.fleet.worker import ownership as owned
from busmon.fleet.worker.open_batch import OpenBatch
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.suspects import Suspects, identity, survives
from busmon.reasons import BodyReason
from busmon.registry.ledger.source_record import Verdict
from busmon.registry.shard.shard import Shard
from busmon.wire.encoding import may_be_compressed
from busmon.wire.envelope import SOURCE_SEPARATOR, Envelope
from busmon.wire.formats import Formats, Origin

_MAX_WARNED = 1000
_ADVICE = (
    "two OpenTelemetry senders look like one, so their gauges replace each other: give each a service.instance.id or"
    " host.name (the Collector's resourcedetection processor does), a routing key of its own, or the header 'source'"
)
_STEP_SECONDS = 1e-6
"""The time between two deliveries of one read, as the fold is told."""

_READ_SECONDS = 1.0
"""More than the deliveries of one read are told to be apart. A greater step backwards is the clock's."""

_UNCOUNTED = frozenset({Verdict.DUPLICATE, Verdict.FOREIGN})

_is_redelivered, _received_at_of = attrgetter("redelivered"), attrgetter("received_at")
_source_of, _agent_of, _parts_of = map(attrgetter, ("source", "agent", "parts"))


class Intake:
    """The steps from a delivery's bytes to the changes of a batch.

    Args:
        batch: has the deliveries already, and takes the refusals and the measures.
        shard: its ledger has the ids, and its fold takes the samples.
        suspects: the note and the blamed identities of the shard.
        formats: decode the bodies.
        ownership: names the user of a delivery.
        queue: named in the log.
        progress: called for each run of deliveries, for a run may take long.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        batch: OpenBatch,
        shard: Shard,
        suspects: Suspects,
        *,
        formats: Formats,
        ownership: Ownership,
        queue: str,
        progress: Callable[[], object],
    ) -> None:
        self._batch = batch
        self._shard = shard
        self._suspects = suspects
        self._formats = formats
        self._ownership = ownership
        self._queue = queue
        self._progress = progress
        self._warned: set[str] = set()
        self._folded_at = 0.0

    def fold(self, run: Sequence[Delivery]) -> None:
        """Fold deliveries of the batch in order; deliveries that may kill the worker are folded one by one.

        Raises:
            OSError: the files can't take a new family, or a suspect's note.
        """
        now = self._batch.read_clock()
        if not self._suspects.blamed and not any(map(_is_redelivered, run)):
            self._decode(run, now)
            return
        may_kill = self._may_kill if self._suspects.blamed else _is_redelivered
        for is_suspect, together in groupby(run, may_kill):
            if is_suspect:
                for delivery in together:
                    self._fold_suspect(delivery, now)
            else:
                self._decode([*together], now)

    def _may_kill(self, delivery: Delivery) -> bool:
        return delivery.redelivered or identity(delivery.message_id, delivery.body) in self._suspects.blamed

    # -- deliveries that may kill the worker --------------------------------------------------------------------------

    def _fold_suspect(self, delivery: Delivery, now: float) -> None:
        """Note a delivery that may have killed a worker; try a blamed delivery in a child first."""
        who = identity(delivery.message_id, delivery.body)
        if who in self._suspects.blamed:
            if not survives(lambda: self.undergo(delivery, now), self._shard.detach):
                self._suspects.convict(who, now)
                self._batch.refuse(
                    delivery, EnvelopeError(BodyReason.KILLS_WORKER, "decoding or folding it ended its worker")
                )
                return
            self._suspects.acquit(who)
        self._suspects.note(who)
        try:
            self._decode([delivery], now)
        finally:
            self._suspects.clear()

    def undergo(self, delivery: Delivery, now: float) -> None:
        """Fold and commit a delivery in a child that has detached from the shard's files."""
        self._shard.rollback()
        self._decode([delivery], now)
        self._shard.commit(now)

    # -- bytes to envelopes -------------------------------------------------------------------------------------------

    def _decode(self, run: Sequence[Delivery], now: float) -> None:
        """Decode deliveries and count them."""
        bodies, _, _, _, routing_keys, *stated, encoded, _, _ = zip(*run, strict=True)
        content_types, content_encodings, message_ids, _, _ = stated
        are_own = self._formats.are_own(bodies, routing_keys, content_types, content_encodings, message_ids)
        if (
            are_own
            and not may_be_large(encoded)
            and not (self._ownership.is_required and None in self._ownership.users(run))
        ):
            envelopes = self._formats.decode_own(bodies, self._shard.fold.texts.read)
            if envelopes is not None:
                self._count(run, envelopes, message_ids, now)
                return
        for decoded in self._decode_singly(run):
            run, envelopes = ([*column] for column in zip(*decoded, strict=True))
            self._count(run, envelopes, [each.message_id or envelope.identity for each, envelope in decoded], now)

    def _decode_singly(self, run: Iterable[Delivery]) -> Iterator[list[tuple[Delivery, Envelope]]]:
        """Yield the valid deliveries with their envelopes, and refuse the others.

        An envelope may take a thousand times the memory of a compressed body, so no two of these are held at a time.
        """
        decoded: list[tuple[Delivery, Envelope]] = []
        for delivery in run:
            try:
                first = self._ownership.read_first_publish(delivery)
                _require_small_properties(first)
                envelope = self._formats.decode(delivery, Origin(first.exchange, first.user))
                envelope = self._require_owner(envelope, first.user)
            except EnvelopeError as refusal:
                self._batch.refuse(delivery, refusal)
                continue
            decoded.append((delivery, envelope))
            if envelope.parts or may_be_compressed(delivery.body, delivery.content_encoding):
                yield decoded
                decoded = []
        if decoded:
            yield decoded

    def _require_owner(self, envelope: Envelope, user: str | None) -> Envelope:
        """Return the envelope that a user published, unless another user owns a source of one of its parts.

        Raises:
            EnvelopeError: `no_user` or `foreign_source`.
        """
        self._ownership.require(user)
        if (envelope.parts or envelope.is_shared) and self._ownership.is_checked:
            envelope = owned.own_sources(envelope, user, self._shard.ledger)
            for part in envelope.parts:
                if self._shard.ledger.is_foreign(part.source, user):
                    raise owned.foreign_source(part.source, user)
        return envelope

    # -- envelopes to changes -----------------------------------------------------------------------------------------

    def _count(
        self, run: Sequence[Delivery], envelopes: Sequence[Envelope], message_ids: Sequence[str | None], now: float
    ) -> None:
        """Look up the envelopes' ids, fold and measure the envelopes: each step for all envelopes."""
        self._progress()
        fold = self._shard.fold
        users = self._ownership.users(run)
        verdicts = self._shard.ledger.admit_all(
            [*map(_source_of, envelopes)], message_ids, now, users, [*map(_agent_of, envelopes)]
        )
        if verdicts.count(Verdict.NEW) < len(verdicts):
            self._note(verdicts, run, envelopes, users)
            counted = [verdict not in _UNCOUNTED for verdict in verdicts]
            run, envelopes = [*compress(run, counted)], [*compress(envelopes, counted)]
            users = [*compress(users, counted)]
        times = self._tell_apart(run, now)
        if any(map(_parts_of, envelopes)):
            for delivery, envelope, at, user in zip(run, envelopes, times, users, strict=True):
                told = self._recognize(delivery, envelope) if envelope.parts else envelope
                fold.envelope(told, at, user)
                if told.parts:
                    self._note_parts(delivery, told, user, now)
        else:
            fold.envelopes(envelopes, times, users)
        self._batch.measured.take(run, envelopes, users, now)
        if confused := self._shard.take_confused_sources():
            self._warn_of_confused(confused)

    def _tell_apart(self, run: Iterable[Delivery], now: float) -> list[float]:
        """Return the receipts of deliveries, with a step between those of one read, in seconds since the epoch.

        A receipt decides the later of two gauges of one source, and the order decides where both came in one read.
        """
        at = self._folded_at
        receipts = [*map(_received_at_of, run)]
        if receipts and max(receipts) > now:  # the clock was set back meanwhile
            receipts = [min(received_at, now) for received_at in receipts]
        times = [at := at + _STEP_SECONDS if 0.0 <= at - since < _READ_SECONDS else since for since in receipts]
        self._folded_at = at
        return times

    def _recognize(self, delivery: Delivery, envelope: Envelope) -> Envelope:
        """Say of a redelivered body without an id how often its bytes were counted."""
        if not delivery.redelivered or _has_id(delivery, envelope):
            return envelope
        times = self._shard.ledger.count_body(envelope.source, delivery.body)
        return envelope._replace(parts=[part._replace(times_counted=times) for part in envelope.parts])

    def _note_parts(self, delivery: Delivery, envelope: Envelope, user: str | None, now: float) -> None:
        """Note the sources of a body of another format, and its bytes if nothing else tells when its totals come again.

        Bytes that were counted are noted already.
        """
        ledger = self._shard.ledger
        for part in envelope.parts:
            ledger.hear(part.source, now, user, part.agent)
        has_untimed = self._shard.fold.streams.take_untimed()
        if has_untimed and not _has_id(delivery, envelope) and not envelope.parts[0].times_counted:
            ledger.note_body(envelope.source, delivery.body)

    def _note(
        self,
        verdicts: Sequence[Verdict],
        run: Sequence[Delivery],
        envelopes: Sequence[Envelope],
        users: Sequence[str | None],
    ) -> None:
        """Note the verdicts other than `NEW`, and refuse envelopes of sources that belong to another user."""
        for verdict, delivery, envelope, user in zip(verdicts, run, envelopes, users, strict=True):
            if verdict is Verdict.FOREIGN:
                self._batch.refuse(delivery, owned.foreign_source(envelope.source, user))
            elif verdict is not Verdict.NEW:
                self._batch.measured.verdicts[verdict] += 1

    def _warn_of_confused(self, confused: set[str]) -> None:
        """Log once for each name that two sources share it, with advice, but few lines in a minute."""
        if len(self._warned) >= _MAX_WARNED:
            self._warned &= confused
        for source in confused - self._warned:
            user, has_user, _ = source.partition(SOURCE_SEPARATOR)
            told = {"queue": self._queue, "source": source, "advice": _ADVICE}
            paced_log = self._batch.paced_log
            if paced_log.write(logging.WARNING, "lane.sources_confused", "", user if has_user else None, **told):
                self._warned.add(source)


def _has_id(delivery: Delivery, envelope: Envelope) -> bool:
    return bool(delivery.message_id or envelope.identity)


def _require_small_properties(first: FirstPublish) -> None:
    """Check that the properties of a first publish can be read.

    Raises:
        EnvelopeError: `large_properties`.
    """
    if first.large_bytes:
        raise EnvelopeError(
            BodyReason.LARGE_PROPERTIES,
            f"{first.large_bytes} bytes of AMQP properties and headers; at most {MAX_PROPERTIES_BYTES} are accepted",
        )
