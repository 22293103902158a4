"""What a batch shows of itself: latencies, sizes, verdicts, who is there, gathered as it is folded and added in bulk.

They are part of the batch's own commit, so they are as exact as what they count. One thread.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping

from busmon.bus.delivery import Delivery
from busmon.registry.fold.fold import Fold
from busmon.registry.fold.ledger import Ledger, Verdict
from busmon.status import ShardStatus
from busmon.wire.envelope import Envelope

_COUNTED_AS: Mapping[Verdict, str] = {
    Verdict.DUPLICATE: "busmon_envelopes_deduplicated_total",
    Verdict.UNIDENTIFIED: "busmon_envelopes_unidentified_total",
    Verdict.UNVERIFIABLE: "busmon_envelopes_unverifiable_total",
}


BELIEVED_SECONDS = 30 * 86_400.0
"""Nothing waits in a queue for longer; one stamp of 1970 would be a latency that outweighs all others for good."""


class Measured:
    """The measures of one open batch.

    Attributes:
        verdicts: the ledger's on its envelopes, but for `NEW`.
        refused: its bodies that were no envelopes, by reason.

    Args:
        commit_seconds: what the batch before it took to commit; None if there was none.
    """

    def __init__(self, commit_seconds: float | None = None) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.refused: Counter[str] = Counter()
        self._commit_seconds = [] if commit_seconds is None else [commit_seconds]
        self._latencies: list[float] = []
        self._sizes: defaultdict[str, list[int]] = defaultdict(list)
        self._heard: dict[str, float] = {}
        self._present: dict[str, str] = {}
        self._skewed: Counter[str] = Counter()

    def take(self, envelope: Envelope, delivery: Delivery, now: float) -> None:
        """Measure an envelope that was consumed at `now`, in seconds since the epoch."""
        self._sizes[envelope.format].append(len(delivery.body))
        self._heard[envelope.agent] = now
        if envelope.final:
            self._present.pop(envelope.source, None)
        else:
            self._present[envelope.source] = envelope.agent
        for part in envelope.parts:
            self._heard[part.agent] = now
            self._present[part.source] = part.agent
        published_at = delivery.published_at or envelope.ts
        if published_at is None:
            return
        if not now - BELIEVED_SECONDS <= published_at <= now:
            self._skewed[envelope.agent] += 1
            published_at = now
        self._latencies.append(now - published_at)

    def describe(self, fold: Fold, ledger: Ledger, status: ShardStatus, now: float) -> None:
        """Add the measures to the batch, which is about to be committed at `now`."""
        shard = (str(status.shard),)
        for format_, sizes in self._sizes.items():
            fold.count("busmon_envelopes_consumed_total", shard, len(sizes))
            fold.observe("message_size_bytes", (format_,), sizes)
        if self._latencies:
            fold.observe("message_latency_seconds", (status.queue,), self._latencies)
        for verdict, amount in self.verdicts.items():
            fold.count(_COUNTED_AS[verdict], shard, amount)
        for reason, amount in self.refused.items():
            fold.count("busmon_envelopes_rejected_total", (reason,), amount)
        for agent, amount in self._skewed.items():
            fold.count("busmon_clock_skew_total", (agent,), amount)
        for agent, heard_at in self._heard.items():
            fold.set("busmon_last_envelope_timestamp_seconds", (agent,), heard_at, heard_at)
        for source, agent in self._present.items():
            fold.attend(source, agent, now)
        if span_seconds := ledger.ring_span(now):
            fold.set("busmon_ledger_ring_span_seconds", shard, span_seconds, now)
        if self._commit_seconds:
            fold.observe("busmon_commit_duration_seconds", (), self._commit_seconds)
