"""The measures of a batch: latencies, sizes, verdicts and presence, gathered as it is folded and added in bulk.

The measures are part of the batch's own commit, so they are as exact as its counts. One thread.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from busmon.bus.frames.delivery import Delivery
from busmon.registry.fold.fold import Fold
from busmon.registry.ledger.ledger import Ledger
from busmon.registry.ledger.source_record import Verdict
from busmon.wire.envelope import Envelope

_COUNTED_AS: Mapping[Verdict, str] = {
    Verdict.DUPLICATE: "busmon_envelopes_deduplicated_total",
    Verdict.UNIDENTIFIED: "busmon_envelopes_unidentified_total",
    Verdict.UNVERIFIABLE: "busmon_envelopes_unverifiable_total",
}

BELIEVED_SECONDS = 30 * 86_400.0
"""The longest believable wait in a queue; a single stamp of 1970 would permanently outweigh all other latencies."""

_body_of, _published_at_of, _received_at_of = map(attrgetter, ("body", "published_at", "received_at"))


class Measured:
    """The measures of one open batch.

    Attributes:
        verdicts: the ledger's verdicts on the batch's envelopes, except `NEW`.
        refused: the batch's invalid bodies, by reason.
        discarded: those of them that aren't quarantined, by user; "" is nobody.

    Args:
        commit_seconds: the duration of the previous batch's commit; None if there was none.
    """

    def __init__(self, commit_seconds: float | None = None) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.refused: Counter[str] = Counter()
        self.discarded: Counter[str] = Counter()
        self._commit_seconds = [] if commit_seconds is None else [commit_seconds]
        self._latencies: list[float] = []
        self._sizes: defaultdict[str, list[int]] = defaultdict(list)
        self._heard: dict[str, float] = {}
        self._present: dict[str, str] = {}
        self._users: dict[str, str | None] = {}
        self._skewed: Counter[str] = Counter()

    def take(
        self, deliveries: Sequence[Delivery], envelopes: Sequence[Envelope], users: Sequence[str | None], now: float
    ) -> None:
        """Measure envelopes that were folded at `now`, in seconds since the epoch, and published by these users.

        Their latency ends with the receipt, not with the fold, which waits until it pays.
        """
        if not envelopes:
            return
        sources, agents, times, _, _, finals, parts, _, formats, _, _ = zip(*envelopes, strict=True)
        received = [*map(_received_at_of, deliveries)]
        heard = received if max(received) <= now else [now] * len(received)  # or else the clock was set back meanwhile
        self._heard.update(zip(agents, heard, strict=True))
        self._users.update(zip(agents, users, strict=True))
        if any(finals) or any(parts):
            self._attend(envelopes, users, heard)
        else:
            self._present.update(zip(sources, agents, strict=True))
        lengths = map(len, map(_body_of, deliveries))
        if formats.count(formats[0]) == len(formats):
            self._sizes[formats[0]] += lengths
        else:
            for format_, length in zip(formats, lengths, strict=True):
                self._sizes[format_].append(length)
        published = [at or ts for at, ts in zip(map(_published_at_of, deliveries), times, strict=True)]
        self._time(published, received, agents)

    def _time(self, published: Sequence[float | None], received: Sequence[float], agents: Iterable[str]) -> None:
        """Note the latencies; an impossible time gives latency 0, and counts as a wrong clock of the agent."""
        stated = [at - since for at, since in zip(received, published, strict=True) if since is not None]
        if not stated or (min(stated) >= 0.0 and max(stated) <= BELIEVED_SECONDS):
            self._latencies += stated
        else:
            self._latencies += (seconds for seconds in stated if 0.0 <= seconds <= BELIEVED_SECONDS)
            said = zip(agents, published, received, strict=True)
            skewed = [a for a, since, at in said if since is not None and not 0.0 <= at - since <= BELIEVED_SECONDS]
            self._skewed.update(skewed)
            self._latencies += [0.0] * len(skewed)

    def _attend(self, envelopes: Iterable[Envelope], users: Iterable[str | None], heard: Iterable[float]) -> None:
        """Note the present agents, in order: an agent that stops may have started in the same batch."""
        for envelope, user, at in zip(envelopes, users, heard, strict=True):
            if envelope.final:
                self._present.pop(envelope.source, None)
            else:
                self._present[envelope.source] = envelope.agent
            for part in envelope.parts:
                self._heard[part.agent] = at
                self._users[part.agent] = user
                self._present[part.source] = part.agent

    def describe(self, fold: Fold, ledger: Ledger, number: int, queue: str, now: float) -> None:
        """Add the measures to the batch of a shard's queue, just before its commit at `now`."""
        shard = (str(number),)
        for format_, sizes in self._sizes.items():
            fold.own.count("busmon_envelopes_consumed_total", shard, len(sizes))
            fold.own.observe("message_size_bytes", (format_,), sizes)
        if self._latencies:
            fold.own.observe("message_latency_seconds", (queue,), self._latencies)
        for verdict, amount in self.verdicts.items():
            fold.own.count(_COUNTED_AS[verdict], shard, amount)
        for name, amounts in (
            ("busmon_envelopes_rejected_total", self.refused),
            ("busmon_quarantine_discarded_total", self.discarded),
            ("busmon_clock_skew_total", self._skewed),
        ):
            for label, amount in amounts.items():
                fold.own.count(name, (label,), amount)
        for agent, heard_at in self._heard.items():
            fold.own.set("busmon_last_envelope_timestamp_seconds", (agent,), heard_at, heard_at, self._users[agent])
        for source, agent in self._present.items():
            fold.own.attend(source, agent, now, self._users[agent])
        if span_seconds := ledger.ring_span(now):
            fold.own.set("busmon_ledger_ring_span_seconds", shard, span_seconds, now)
        if self._commit_seconds:
            fold.own.observe("busmon_commit_duration_seconds", (), self._commit_seconds)
